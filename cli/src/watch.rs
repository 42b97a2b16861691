//! Polling: `list --watch` and `wait`.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use db_mutex::admin::{ListFilter, LockRow, LockState};
use db_mutex::{DbMutex, Fence, LockId, WaitLimit};
use nix::sys::signal::{Signal, raise};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::args::{Cli, WaitArgs};
use crate::database::{Connected, Purpose, connect_within};
use crate::exit::{FAILED, Failure, HELD, by_signal};
use crate::print;

/// How often the list is read.
const INTERVAL: Duration = Duration::from_secs(1);

/// `db-mutex list --watch`: redraws a terminal; elsewhere prints the list at the beginning and after each change. Until it is
/// interrupted, or its reader is gone.
pub(crate) async fn watch(mutex: &DbMutex, filter: &ListFilter, json: bool) -> Result<u8, Failure> {
    let failed = |error| Failure::new(FAILED, format!("cannot catch signals: {error}"));
    let caught = |kind: Signal| signal(SignalKind::from_raw(kind as i32)).map_err(failed);
    let (mut hangup, mut interrupt) = (caught(Signal::SIGHUP)?, caught(Signal::SIGINT)?);
    let (mut quit, mut terminate) = (caught(Signal::SIGQUIT)?, caught(Signal::SIGTERM)?);
    let mut stop = caught(Signal::SIGTSTP)?;
    let is_screen = !json && stdout().is_terminal();
    let mut screen = is_screen.then(Screen::enter).transpose()?;
    let mut shown = None;
    loop {
        let looked = async {
            let rows = mutex.list(filter).await;
            match (&screen, rows) {
                (Some(screen), Ok(rows)) => screen.draw(&print::table(&rows))?,
                // If the database is unreachable for a while, keep polling.
                (Some(screen), Err(error)) if error.is_transient() => screen.draw(&Failure::from(error).message)?,
                (_, Err(error)) => return Err(Failure::from(error)),
                (None, Ok(rows)) => {
                    let news = Some(rows.iter().map(facts_that_change).collect::<Vec<_>>());
                    if news != shown {
                        print_change(&rows, json, shown.is_none())?;
                        shown = news;
                    }
                }
            }
            sleep(INTERVAL).await;
            Ok(())
        };
        tokio::select! {
            result = looked => result?,
            _ = hangup.recv() => return Ok(die_of(Signal::SIGHUP, screen)),
            _ = interrupt.recv() => return Ok(die_of(Signal::SIGINT, screen)),
            _ = quit.recv() => return Ok(die_of(Signal::SIGQUIT, screen)),
            _ = terminate.recv() => return Ok(die_of(Signal::SIGTERM, screen)),
            _ = stop.recv() => {
                // The shell has its own screen meanwhile.
                drop(screen.take());
                let _ = raise(Signal::SIGSTOP);
                screen = is_screen.then(Screen::enter).transpose()?;
            }
        }
    }
}

/// Ends the process by a signal that it has caught, with the terminal as it was.
fn die_of(signal: Signal, screen: Option<Screen>) -> u8 {
    drop(screen);
    let _ = signal_hook::low_level::emulate_default_handler(signal as i32);
    by_signal(signal as i32)
}

/// What makes one list differ from another: not the time that has passed.
fn facts_that_change(row: &LockRow) -> (LockId, Fence, LockState) {
    (row.lock_id.clone(), row.fence, row.state())
}

/// One table, or one line of JSON, for a program or a file that reads along.
fn print_change(rows: &[LockRow], json: bool, is_first: bool) -> Result<(), Failure> {
    if json {
        return print::line(&Value::from(rows.iter().map(print::to_json).collect::<Vec<_>>()).to_string());
    }
    if !is_first {
        print::line("")?;
    }
    print::line(&print::table(rows))
}

/// The other screen of a terminal; the first one is back when this is dropped.
struct Screen;

impl Screen {
    fn enter() -> Result<Self, Failure> {
        print::raw("\x1b[?1049h\x1b[?25l").map(|()| Self)
    }

    fn draw(&self, text: &str) -> Result<(), Failure> {
        // From the top, each line to its end, and then all that is below: without a flicker.
        let lines: String = text.lines().map(|line| format!("{line}\x1b[K\r\n")).collect();
        print::raw(&format!("\x1b[H{lines}\x1b[J"))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write!(stdout(), "\x1b[?25h\x1b[?1049l").and_then(|()| stdout().flush());
    }
}

/// `db-mutex wait`: returns when a lock is free; acquires nothing.
pub(crate) async fn wait(cli: &Cli, args: &WaitArgs) -> Result<u8, Failure> {
    LockId::new(&args.name)?;
    // Without a timeout a wrong host would be tried forever, without a word.
    let limit = args.timeout.map_or(WaitLimit::DontWait, WaitLimit::AtMost);
    let Connected { mutex, left, .. } = connect_within(cli, Purpose::Look, limit).await?;
    let end = if let WaitLimit::AtMost(left) = left { Some(Instant::now() + left) } else { None };
    let mut pause = Duration::from_millis(50);
    loop {
        let (failure, until_free) = match mutex.find(&args.name).await {
            Ok(row) => match row.filter(LockRow::is_taken) {
                None => return Ok(0),
                Some(row) => {
                    let holder = row.to_holder();
                    let how_long = print::how_long(&holder);
                    let message = format!("lock `{}` is still held by {holder}, {how_long}", args.name);
                    (Failure::new(HELD, message), row.expires_in())
                }
            },
            Err(error) if error.is_transient() => (error.into(), None),
            Err(error) => return Err(error.into()),
        };
        let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Err(failure);
        }
        let free_at = until_free.unwrap_or(Duration::MAX) + Duration::from_millis(1);
        sleep(pause.min(left).min(free_at)).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}
