use super::*;

/// Three hosts with addresses, so that no name is looked up.
fn hosts(random: bool, limit: Option<Duration>) -> Hosts {
    let place = |number: u8| Place { host: None, address: Some([127, 0, 0, number].into()), port: 5432 };
    Hosts::new((1..=3).map(place).collect(), (None, Target::ReadWrite), random, limit, Duration::from_secs(18))
}

/// What happens at a host.
#[derive(Clone, Copy, PartialEq)]
enum Is {
    Up,
    Standby,
    Frozen,
}

struct Servers {
    are: [Is; 3],
    begun: Instant,
    /// The last number of each address, and after how many seconds it was tried.
    tried: Mutex<Vec<(u8, u64)>>,
}

impl Open for Servers {
    type Connection = u8;

    async fn open(&self, attempt: Attempt<'_>) -> Result<u8, Cause> {
        let Some(SocketAddr::V4(address)) = attempt.address else { panic!("it has an address") };
        let number = address.ip().octets()[3];
        self.tried.lock().unwrap().push((number, self.begun.elapsed().as_secs()));
        assert_eq!(attempt.target, Target::ReadWrite);
        match self.are[usize::from(number) - 1] {
            Is::Up => Ok(number),
            Is::Standby => Err(Cause::Standby),
            Is::Frozen => std::future::pending().await,
        }
    }
}

fn servers(are: [Is; 3]) -> Servers {
    Servers { are, begun: Instant::now(), tried: Mutex::default() }
}

/// Connects, and returns the number that was taken, and what was tried when.
async fn connect(hosts: &Hosts, are: [Is; 3]) -> (Option<u8>, Vec<(u8, u64)>) {
    let servers = servers(are);
    let connected = hosts.connect(&servers, None).await;
    (connected.ok().map(|(number, _)| number), servers.tried.into_inner().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_frozen_host_leaves_time_for_the_others() {
    let three = hosts(false, None);
    let (taken, tried) = connect(&three, [Is::Frozen, Is::Frozen, Is::Up]).await;
    assert_eq!((taken, tried), (Some(3), vec![(1, 0), (2, 3), (3, 6)]));
    let (taken, tried) = connect(&hosts(false, Some(Duration::from_secs(1))), [Is::Frozen, Is::Frozen, Is::Up]).await;
    assert_eq!((taken, tried), (Some(3), vec![(1, 0), (2, 1), (3, 2)]));
}

#[tokio::test(start_paused = true)]
async fn a_long_limit_for_one_host_leaves_time_for_the_others_too() {
    for seconds in [4, 17, 18, 60] {
        let limit = Some(Duration::from_secs(seconds));
        let (taken, tried) = connect(&hosts(false, limit), [Is::Frozen, Is::Frozen, Is::Up]).await;
        assert_eq!((taken, tried), (Some(3), vec![(1, 0), (2, 3), (3, 6)]), "connect_timeout={seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn addresses_of_one_name_share_its_time() {
    let both: Vec<_> = [1, 3].map(|number| Some(SocketAddr::from(([127, 0, 0, number], 5432)))).into();
    for (limit, was_silent, seconds) in
        [(None, false, 3), (Some(60), false, 3), (Some(60), true, 9), (Some(1), true, 1)]
    {
        let one = hosts(false, limit.map(Duration::from_secs));
        let (servers, until) = (servers([Is::Frozen, Is::Frozen, Is::Up]), Instant::now() + one.in_all);
        let (mut unreachable, time) = (Unreachable::new(false), (until, was_silent));
        let taken = one.connect_to_one_of(&both, &one.places[0], time, &servers, &mut unreachable).await;
        assert_eq!(taken.map(|(number, _)| number), Some(3));
        assert_eq!(*servers.tried.lock().unwrap(), [(1, 0), (3, seconds)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_for_which_there_was_no_time_has_not_failed() {
    let three = hosts(false, None);
    let late = Late { silent_for: Duration::from_secs(20) };
    let error = three.connect(&late, None).await.unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1:5432 is a standby");
    assert_eq!(connect(&three, [Is::Frozen, Is::Up, Is::Standby]).await.1, [(2, 0)]);
}

/// Does not let go of the thread for so long: no timeout comes in between.
struct Late {
    silent_for: Duration,
}

impl Open for Late {
    type Connection = u8;

    async fn open(&self, _: Attempt<'_>) -> Result<u8, Cause> {
        tokio::time::advance(self.silent_for).await;
        Err(Cause::Standby)
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_last_is_tried_first_and_what_failed_is_tried_last() {
    let three = hosts(false, None);
    assert_eq!(connect(&three, [Is::Standby, Is::Up, Is::Standby]).await.0, Some(2));
    assert_eq!(connect(&three, [Is::Standby, Is::Up, Is::Standby]).await.1, [(2, 0)]);
    assert_eq!(connect(&three, [Is::Up, Is::Frozen, Is::Standby]).await.1, [(2, 0), (3, 3), (1, 3)]);
    assert_eq!(connect(&three, [Is::Up, Is::Frozen, Is::Standby]).await.1, [(1, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_slow_has_more_time_the_next_time() {
    let three = hosts(false, None);
    assert_eq!(connect(&three, [Is::Frozen, Is::Standby, Is::Standby]).await.1, [(1, 0), (2, 3), (3, 3)]);
    assert_eq!(connect(&three, [Is::Frozen, Is::Standby, Is::Standby]).await.1, [(1, 0), (2, 6), (3, 6)]);
    connect(&three, [Is::Up, Is::Standby, Is::Standby]).await;
    assert_eq!(connect(&three, [Is::Frozen, Is::Standby, Is::Standby]).await.1, [(1, 0), (2, 3), (3, 3)]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_given_up_was_not_in_vain() {
    let three = hosts(false, None);
    let all_frozen = connect(&three, [Is::Frozen; 3]);
    assert!(tokio::time::timeout(Duration::from_secs(4), all_frozen).await.is_err());
    let four_seconds = Duration::from_secs(4);
    assert_eq!(three.in_trouble(four_seconds).unwrap(), "127.0.0.1:5432 did not answer within 3.0 s");
    assert_eq!(three.in_trouble(Duration::ZERO), None, "it is older than the request");
    assert_eq!(connect(&three, [Is::Frozen, Is::Up, Is::Standby]).await.1, [(2, 0)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_host_is_no_reason_when_another_was_taken() {
    let three = hosts(false, None);
    assert_eq!(connect(&three, [Is::Standby, Is::Standby, Is::Up]).await.0, Some(3));
    assert_eq!(three.in_trouble(Duration::from_secs(1)), None);
    assert_eq!(connect(&three, [Is::Standby; 3]).await.0, None);
    assert_eq!(
        three.in_trouble(Duration::from_secs(1)).unwrap(),
        "127.0.0.1:5432 is a standby; 127.0.0.2:5432 is a standby; 127.0.0.3:5432 is a standby"
    );
}

#[tokio::test(start_paused = true)]
async fn a_host_that_did_not_answer_a_request_is_tried_last() {
    let three = hosts(false, None);
    let (_, first) = three.connect(&servers([Is::Up; 3]), None).await.unwrap();
    three.leave(first);
    three.leave(first);
    assert_eq!(connect(&three, [Is::Frozen, Is::Standby, Is::Up]).await.1, [(2, 0), (3, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_to_another_server_is_known_as_such() {
    let three = hosts(false, None);
    let (_, first) = three.connect(&servers([Is::Up, Is::Standby, Is::Standby]), None).await.unwrap();
    let moved = three.moved_from(first);
    tokio::pin!(moved);
    assert!(!three.is_elsewhere(first) && tokio::time::timeout(Duration::ZERO, &mut moved).await.is_err());
    connect(&three, [Is::Standby, Is::Standby, Is::Up]).await;
    assert!(three.is_elsewhere(first));
    moved.await;
}

#[tokio::test(start_paused = true)]
async fn in_a_random_order_every_host_comes_first_now_and_then() {
    let three = hosts(true, None);
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..200 {
        first.insert(connect(&three, [Is::Up; 3]).await.0);
    }
    assert_eq!(first.len(), 3);
}
