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
    TwoWinnersOfOneLength,
    HandlesDoNotSeeEachOther,
    OneLockForAllIds,
    RefusalHidesTheHolder,
    RefusalHidesTheRemainingTime,
    RefusalProlongsTheLease,
    NeverIsAnHour,
    LeaseIsHalfTheTtl,
    LeaseEndsEarly,
    HolderNameIsCut,

    // The same owner again.
    RepeatIsRefused,
    RepeatRaisesTheFence,
    RepeatDoesNotProlong,
    RepeatShortens,
    RepeatAfterTheEndIsNew,
    DroppedInsertIsHalfDone,

    // Tokens that were released.
    SpentIsGranted,
    SpentIsHeldUnderASuccessor,
    SpentIsForgottenByTheSuccessor,
    ForcedOutIsGranted,

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
    RestIsCutToTheLease,
    ForceIsIgnored,
    ForceIsIgnoredForTheResting,
    ForceSaysReleasedAlways,
    ForceGoesById,
    RepeatedDeleteSaysNotHeld,
    EveryDeleteOfAFreeIdSaysAlready,
    ReleaseLeavesItsTime,

    // Renewing.
    RenewRevivesALostLease,
    RenewAsksForNoOwner,
    RenewCountsFromTheAcquisition,
    RenewShortens,
    RenewGivesNeverAnEnd,
    RenewMakesLeases,
    RenewRaisesTheFence,

    // Housekeeping.
    PurgeRemovesTheLiving,
    PurgeIgnoresOlderThan,
    PurgeRemovesNothing,
    PurgeMiscounts,
    PurgeForgetsTheRelease,
    PurgeCountsFromTheAcquisition,
    PurgeIsAThousandTimesTooYoung,
    PurgeIsAThousandTimesTooOld,
    PurgeReadsThenRemoves,
    PurgeReadsAllThenRemoves,
    PurgeEndsAfterAThousand,

    // Ids.
    IdsAreFoldedByCase,
    IdsAreCutAt255Bytes,
    IdsAreTrimmedAtTheEnd,
    IdsAreTrimmedAtTheStart,
    IdsAreNormalised,
    IdsAreFoldedByAccent,
    IdsAreNumbers,
    IdsLoseTheirQuotes,
    IdsLoseABar,
    IdsArePaths,
    IdsArePercentDecoded,

    // Reading.
    FindHidesTheHolder,
    FindAnswersAnotherRow,
    FreeIsNotFound,
    EndedReadsAsReleased,
    ListShowsTheDeadAsLiving,
    ListIsUnsorted,
    ListHidesTheFree,
    ListEndsAfterAThousand,
    FindReadsTwice,
    ListReadsTwice,
    HalfAWriteIsNothing,

    // A clock that was ahead.
    TtlIsTheLastOne,
    TtlIsTheFirstOne,
    TtlOfARestIsTheLeases,
    ExcessIsShown,
    ExcessIsIgnored,
    ExcessEndsByTheOldClock,
    LockedExcessIsBusy,
    ExcessHasNoTolerance,
    NeverIsExcessive,
    RestCountsFromTheFuture,
    ReadersEndExcess,
    FenceIsTheClock,
    FenceIsADouble,
    PurgeForgetsTheFence,

    // Rows that others have locked.
    LockedRowsAreWaitedFor,
    BatchFailsAsAWhole,

    // Many at once, and waiting.
    ManyAnswerInAnotherOrder,
    ManyAreAtMostAHundred,
    ManyOfNothingIsAnError,
    ManyShareTheFirstTtl,
    ManyShareTheFirstRest,
    WaitingNeverEnds,
    WaitingReturnsAtOnce,
    WaitingBlocksItsThread,

    // The factory of the suite.
    StartsWithARow,
    NamespacesAreOne,
}
