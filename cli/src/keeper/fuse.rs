use std::time::Duration;

use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;

use super::message::BootTime;

/// A timer of the kernel that kills the keeper, and with it the command, even if it is stopped.
pub(super) struct Fuse(Option<Timer>);

impl Fuse {
    /// Sets none yet. Without such timers it is left to the keeper alone.
    pub(super) fn new() -> Self {
        let kill = SigEvent::new(SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 });
        Self(Timer::new(ClockId::CLOCK_BOOTTIME, kill).ok())
    }

    pub(super) fn set(&mut self, at: BootTime) {
        // Zero turns it off.
        let at = if at == BootTime::NEVER { Duration::ZERO } else { at.since_boot() };
        if let Some(timer) = &mut self.0 {
            let _ = timer.set(Expiration::OneShot(TimeSpec::from_duration(at)), TimerSetTimeFlags::TFD_TIMER_ABSTIME);
        }
    }
}
