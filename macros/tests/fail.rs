//! What is refused, with the messages: a file for each rule, of its name. `TRYBUILD=overwrite` writes the messages anew.

#[test]
fn mistakes_are_reported() {
    trybuild::TestCases::new().compile_fail("tests/fail/*.rs");
}
