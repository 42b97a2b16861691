//! What a failed case says: the factory's fault before the store's, and the rules of the contract.

use std::any::Any;
use std::fmt::Write as _;

use crate::contract::rules_of;

/// What every message begins with that finds the factory wrong.
const FACTORY: &str = "the suite's FACTORY is wrong";

/// The message of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
}

/// Whether the message blames the factory.
pub(crate) fn blames_the_factory(message: &str) -> bool {
    message.starts_with(FACTORY)
}

/// The report of a case that has failed with that message; `factory` is what was found wrong with the factory, if anything was.
pub(crate) fn report(case: &str, message: &str, factory: Option<&str>) -> String {
    if let Some(factory) = factory {
        return format!("{factory}.\nSo the failure of {case} may not be the store's: {message}");
    }
    let mut report = message.to_owned();
    let rules = rules_of(case);
    if !rules.is_empty() && !blames_the_factory(message) {
        write!(report, "\n{case} shows what every store has to keep:").expect("a string takes any text");
        for rule in rules {
            write!(report, "\n- {rule}").expect("a string takes any text");
        }
    }
    report
}
