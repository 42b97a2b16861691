/// What is wrong with a saboteur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: the wrapper itself keeps the contract.
    None,

    // Who is granted a lock, and what a refusal tells.
    AbsentIsRefused,
    ExpiredCountsAsHeld,
    LiveCountsAsExpired,
    TwoWinnersInARace,
    HandlesDoNotSeeEachOther,
    OneLockForAllIds,
    RefusalHidesTheHolder,
    RefusalHidesTheRemainingTime,
    RefusalProlongsTheLease,
    NeverIsAnHour,
    LeaseIsHalfTheTtl,
    HolderTextIsCut,

    // The same owner again.
    RepeatIsRefused,
    RepeatRaisesTheFence,
    RepeatDoesNotProlong,
    DroppedInsertIsHalfDone,

    // Fencing tokens.
    FenceRestartsAfterRelease,
    FenceRestartsAfterExpiry,
    FenceRestartsAfterForce,
    FenceRestartsAfterPurge,
    FenceIsNegative,
    ListTellsAnotherFence,

    // Giving back.
    DeleteChangesNothing,
    DeleteAsksForNoOwner,
    DeleteOfAnEndedLeaseSaysReleased,
    DeleteSaysReleasedAlways,
    HoldAtLeastIsIgnored,
    HoldAtLeastCountsFromTheRelease,
    RestedCountsAsResting,
    ForceIsIgnored,
    ForceIsIgnoredForTheResting,
    ForceSaysReleasedAlways,

    // Renewing.
    RenewRevivesALostLease,
    RenewAsksForNoOwner,
    RenewCountsFromTheAcquisition,
    RenewNeverShortens,
    RenewMakesLeases,
    RenewRaisesTheFence,

    // Housekeeping.
    PurgeRemovesTheLiving,
    PurgeIgnoresOlderThan,
    PurgeRemovesNothing,
    PurgeMiscounts,

    // Ids.
    IdsAreFoldedByCase,
    IdsAreCutAt255Bytes,
    IdsAreTrimmedAtTheEnd,
    IdsAreTrimmedAtTheStart,
    IdsAreNormalised,
    IdsAreFoldedByAccent,
    IdsAreNumbers,
    IdsLoseTheirQuotes,

    // Reading.
    FindHidesTheHolder,
    FindAnswersAnotherRow,
    FreeIsNotFound,
    EndedReadsAsReleased,
    ListShowsTheDeadAsLiving,
    ListIsUnsorted,
    ListHidesTheFree,

    // Many at once, and waiting.
    ManyAnswerInAnotherOrder,
    ManyAreAtMostAHundred,
    ManyOfNothingIsAnError,
    WaitingNeverEnds,
}
