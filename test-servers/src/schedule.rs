use std::time::Duration;

use crate::Proxy;

/// What is done to the connections that there are; new ones work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// They swallow everything, as when a load balancer has forgotten them.
    Forget,
    /// They are closed.
    Cut,
    /// They are reset.
    Reset,
    /// They are closed in the direction of the client only.
    HalfClose,
    /// The next reply is lost, and its connection closed: perhaps after a commit.
    LoseAReply,
    /// The next reply is lost, and its connection stays open and silent.
    SwallowAReply,
    /// The next request is held back for some milliseconds.
    DelayARequest(u64),
    /// All requests are held back for some milliseconds until the next fault.
    SlowDown(u64),
}

impl Proxy {
    /// Does this to the connections.
    pub fn inflict(&self, fault: Fault) {
        self.slow_down(0);
        match fault {
            Fault::Forget => self.forget(),
            Fault::Cut => self.cut(),
            Fault::Reset => self.reset(),
            Fault::HalfClose => self.half_close(),
            Fault::LoseAReply => self.lose_the_next_reply(),
            Fault::SwallowAReply => self.swallow_the_next_reply(),
            Fault::DelayARequest(milliseconds) => self.delay_the_next_request(milliseconds),
            Fault::SlowDown(milliseconds) => self.slow_down(milliseconds),
        }
    }
}

/// Faults and the pauses before them. The same seed gives the same ones.
#[derive(Debug)]
pub struct Schedule {
    state: u64,
}

impl Schedule {
    /// The schedule of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next fault, and how long to wait before it: one of three follows at once.
    pub fn next_fault(&mut self) -> (Duration, Fault) {
        let pause = match self.below(3) {
            0 => Duration::from_millis(self.below(20)),
            _ => Duration::from_millis(100 + self.below(900)),
        };
        let fault = match self.below(10) {
            0 | 1 => Fault::Forget,
            2 => Fault::Cut,
            3 => Fault::Reset,
            4 => Fault::HalfClose,
            5 => Fault::LoseAReply,
            6 | 7 => Fault::SwallowAReply,
            8 => Fault::DelayARequest(50 + self.below(1_450)),
            _ => Fault::SlowDown(20 + self.below(180)),
        };
        (pause, fault)
    }

    /// A number below this one, by `SplitMix64`.
    fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
