use std::ops::AddAssign;

/// What happens in a scenario. Counted, so that a generator which no longer gets anywhere is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    TakenOver,
    Repeated,
    Renewed,
    Released,
    Rested,
    Forced,
    SuccessorSpared,
    Spent,
    ExcessEnded,
    Purged,
    NotCovered,
}

impl Event {
    pub(crate) const ALL: [Event; 11] = [
        Event::TakenOver,
        Event::Repeated,
        Event::Renewed,
        Event::Released,
        Event::Rested,
        Event::Forced,
        Event::SuccessorSpared,
        Event::Spent,
        Event::ExcessEnded,
        Event::Purged,
        Event::NotCovered,
    ];
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Events([u64; Event::ALL.len()]);

impl Events {
    pub(crate) fn count(&mut self, event: Event) {
        self.0[event as usize] += 1;
    }

    pub(crate) fn of(&self, event: Event) -> u64 {
        self.0[event as usize]
    }
}

impl AddAssign for Events {
    fn add_assign(&mut self, other: Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }
}
