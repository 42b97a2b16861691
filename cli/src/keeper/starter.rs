//! The process that becomes the command: it waits for the plan, restores the command's environment, and executes it.

use std::ffi::CString;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;

use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, execvpe, getppid, setpgid};

use super::message::{Message, Order, Plan};
use super::socket;
use crate::exit::{FAILED, NOT_EXECUTABLE, NOT_FOUND};

/// The starter's own process, up to the command. Returns the exit code if there is none.
pub(super) fn main(keeper: Pid, orders: UnixStream) -> u8 {
    let _ = set_name(c"dbmutex-starter");
    // The parent may have died before the request was in force.
    if set_pdeathsig(Signal::SIGKILL).is_err() || getppid() != keeper {
        return FAILED;
    }
    match receive_plan(orders) {
        Ok(Some(plan)) => execute(plan),
        // The lock was not acquired.
        Ok(None) => 0,
        Err(error) => {
            let _ = writeln!(io::stderr(), "db-mutex: cannot prepare the command: {error}");
            FAILED
        }
    }
}

fn receive_plan(keeper: UnixStream) -> io::Result<Option<Plan>> {
    // Until now it is the keeper's own socket.
    rustix::stdio::dup2_stdin(&keeper)?;
    let Some(stdin) = socket::take_over(&keeper)? else { return Ok(None) };
    let Some(Order::Start(plan)) = Order::receive(&keeper)? else { return Ok(None) };
    rustix::stdio::dup2_stdin(stdin)?;
    if plan.own_group {
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    }
    Ok(Some(*plan))
}

fn execute(plan: Plan) -> u8 {
    // Rust's runtime has had it ignored.
    sigpipe::reset();
    let blocked = plan.blocked.into_iter().filter_map(|number| Signal::try_from(number).ok());
    let _ = blocked.collect::<SigSet>().thread_set_mask();
    let text = |text: Vec<u8>| CString::new(text).unwrap_or_default();
    let arguments: Vec<CString> = plan.arguments.into_iter().map(|one| text(one.into_vec())).collect();
    let variables = plan.environment.into_iter();
    let variables = variables.map(|(name, value)| text([name.as_bytes(), b"=", value.as_bytes()].concat()));
    let environment: Vec<CString> = variables.collect();
    let Err(error) = execvpe(&text(plan.file.as_os_str().as_bytes().to_vec()), &arguments, &environment);
    let error = io::Error::from(error);
    let _ = writeln!(io::stderr(), "db-mutex: cannot execute {:?}: {error}", plan.file);
    if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
}
