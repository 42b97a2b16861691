use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum End {
    /// Closed on both sides, as by a proxy that stops.
    #[default]
    Cut,
    /// Reset.
    Reset,
    /// The client sees the end of the stream; what it sends is discarded.
    HalfClosed,
    /// Open, and silent for good.
    Silent,
}

/// A way to a server that can be watched, and broken. It runs on the runtime in which it was made.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where new connections lead.
    server: Mutex<String>,
    /// Whether the next thing that the server says is lost, and the connection with it.
    losing: AtomicBool,
    /// Whether the next thing that the server says is lost, and the connection silent from then on.
    swallowing: AtomicBool,
    /// After how many bytes more the connection on which the server says them is silent.
    silent_after: Mutex<Option<usize>>,
    /// For how many milliseconds the next thing that the client says is held back.
    delaying: AtomicU64,
    /// For how many milliseconds everything that clients say is held back.
    slowing: AtomicU64,
    /// How often the client has spoken after the server.
    round_trips: AtomicUsize,
    /// Whether replies are kept back.
    keeping: watch::Sender<bool>,
    /// Whether new connections are refused.
    closed: AtomicBool,
    /// What was last done to all connections that there were.
    ended: watch::Sender<End>,
    /// The text of a request that is held back.
    holding: watch::Sender<Option<&'static str>>,
    /// What replies say, and what arrives instead.
    rewriting_replies: Mutex<Option<(&'static str, &'static str)>>,
    /// What requests say, and what arrives instead.
    rewriting_requests: Mutex<Option<(&'static str, &'static str)>>,
    /// How many requests are or were held back.
    held: watch::Sender<usize>,
    /// Whether logins lose the settings that they ask for.
    stripping: AtomicBool,
    /// The text of requests that are counted, and how many there were.
    counted: Mutex<(&'static str, usize)>,
}

impl Proxy {
    /// Listens in front of the server of `url`.
    pub async fn to(url: &str) -> Self {
        let (login, place) = url.rsplit_once('@').unwrap();
        let (server, database) = place.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{login}@{}/{database}", listener.local_addr().unwrap());
        let state = Arc::new(State { server: Mutex::new(server.to_owned()), ..State::default() });
        let watched = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if watched.closed.load(Ordering::SeqCst) {
                    continue;
                }
                tokio::spawn(Arc::clone(&watched).serve(client));
            }
        });
        Self { url, state }
    }

    /// The URL of the server, by this way.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on new connections lead to the server of `url`, as after a failover.
    pub fn lead_to(&self, url: &str) {
        let (_, place) = url.rsplit_once('@').unwrap();
        *self.state.server.lock().expect("no thread panics while it holds this") =
            place.split('/').next().unwrap().to_owned();
    }

    /// Loses the next thing that the server says, and the connection with it.
    pub fn lose_the_next_reply(&self) {
        self.state.losing.store(true, Ordering::SeqCst);
    }

    /// Loses the next thing that the server says. The connection stays open, and silent.
    pub fn swallow_the_next_reply(&self) {
        self.state.swallowing.store(true, Ordering::SeqCst);
    }

    /// Passes on so many bytes more of what the server says. The connection on which it says the last of them stays open, and silent.
    pub fn swallow_replies_after(&self, bytes: usize) {
        *self.state.silent_after.lock().expect("no thread panics while it holds this") = Some(bytes);
    }

    /// Holds the next thing that a client says back for a while.
    pub fn delay_the_next_request(&self, milliseconds: u64) {
        self.state.delaying.store(milliseconds, Ordering::SeqCst);
    }

    /// From now on holds everything that a client says back for so long; with 0, no more.
    pub fn slow_down(&self, milliseconds: u64) {
        self.state.slowing.store(milliseconds, Ordering::SeqCst);
    }

    /// Keeps all replies back until the connections are cut.
    pub fn keep_replies(&self) {
        self.state.keeping.send_replace(true);
    }

    /// Cuts all connections, whose replies are lost; new ones work.
    pub fn cut(&self) {
        self.state.ended.send_replace(End::Cut);
        self.state.keeping.send_replace(false);
    }

    /// Resets all connections; new ones work.
    pub fn reset(&self) {
        self.state.ended.send_replace(End::Reset);
    }

    /// Closes all connections in the direction of the client only; new ones work.
    pub fn half_close(&self) {
        self.state.ended.send_replace(End::HalfClosed);
    }

    /// Breaks all connections, and refuses new ones until [`open`](Self::open).
    pub fn close(&self) {
        self.state.closed.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Accepts connections again.
    pub fn open(&self) {
        self.state.closed.store(false, Ordering::SeqCst);
    }

    /// From now on the connections that there are swallow everything, as when a load balancer has forgotten them. New ones
    /// work.
    pub fn forget(&self) {
        self.state.ended.send_replace(End::Silent);
    }

    /// Holds requests back in which there is this text, until `let_go`.
    pub fn hold_requests_with(&self, text: &'static str) {
        self.state.holding.send_replace(Some(text));
    }

    /// Waits until a request is held back.
    pub async fn holds_one(&self) {
        let mut held = self.state.held.subscribe();
        held.wait_for(|held| *held > 0).await.unwrap();
    }

    /// Lets go what was held back.
    pub fn let_go(&self) {
        self.state.holding.send_replace(None);
    }

    /// From now on the server says `instead` where it says `text`, which is as long.
    pub fn rewrite_replies(&self, text: &'static str, instead: &'static str) {
        assert_eq!(text.len(), instead.len(), "a reply keeps its length");
        *self.state.rewriting_replies.lock().expect("no thread panics while it holds this") = Some((text, instead));
    }

    /// The same for what clients say.
    pub fn rewrite_requests(&self, text: &'static str, instead: &'static str) {
        assert_eq!(text.len(), instead.len(), "a request keeps its length");
        *self.state.rewriting_requests.lock().expect("no thread panics while it holds this") = Some((text, instead));
    }

    /// From now on removes `options` from the logins of PostgreSQL's protocol, as a pooler does that takes no notice of them.
    pub fn strip_options(&self) {
        self.state.stripping.store(true, Ordering::SeqCst);
    }

    /// Counts from now on the requests in which there is this text.
    pub fn count_requests_with(&self, text: &'static str) {
        *self.state.counted.lock().expect("no thread panics while it holds this") = (text, 0);
    }

    /// How many of them there were.
    pub fn counted(&self) -> usize {
        self.state.counted.lock().expect("no thread panics while it holds this").1
    }

    /// The round trips since the last question.
    pub fn round_trips(&self) -> usize {
        self.state.round_trips.swap(0, Ordering::SeqCst)
    }
}

impl State {
    async fn serve(self: Arc<Self>, mut client: TcpStream) {
        let mut ended = self.ended.subscribe();
        let address = self.server.lock().expect("no thread panics while it holds this").clone();
        let Ok(mut server) = TcpStream::connect(&address).await else { return };
        let mut end = tokio::select! {
            biased;
            end = next(&mut ended) => end,
            end = self.forward(&mut client, &mut server) => end,
        };
        // Only the client does not know: the servers have no room for all connections that are dead.
        drop(server);
        let mut said = vec![0; 65_536];
        loop {
            match end {
                End::Cut => return,
                End::Reset => return client.set_zero_linger().unwrap_or_default(),
                End::HalfClosed => client.shutdown().await.unwrap_or_default(),
                End::Silent => {}
            }
            // Until the client closes it, or it is broken in another way.
            end = tokio::select! {
                biased;
                end = next(&mut ended) => end,
                () = async { while let Ok(1..) = client.read(&mut said).await {} } => End::Cut,
            }
        }
    }

    /// Passes on what both say, until one of them closes, or a reply is lost.
    async fn forward(&self, client: &mut TcpStream, server: &mut TcpStream) -> End {
        let (mut said, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
        let mut clients_turn = true;
        let mut keeping = self.keeping.subscribe();
        loop {
            let passed_on = tokio::select! {
                biased;
                read = client.read(&mut said) => {
                    let Ok(bytes @ 1..) = read else { return End::Cut };
                    if clients_turn {
                        self.round_trips.fetch_add(1, Ordering::SeqCst);
                        clients_turn = false;
                    }
                    self.hold_back(&String::from_utf8_lossy(&said[..bytes])).await;
                    rewrite(&self.rewriting_requests, &mut said[..bytes]);
                    match without_options(&said[..bytes]) {
                        Some(login) if self.stripping.load(Ordering::SeqCst) => server.write_all(&login).await,
                        _ => server.write_all(&said[..bytes]).await,
                    }
                }
                read = server.read(&mut answered) => {
                    let Ok(bytes @ 1..) = read else { return End::Cut };
                    clients_turn = true;
                    rewrite(&self.rewriting_replies, &mut answered[..bytes]);
                    keeping.wait_for(|keeping| !keeping).await.expect("its sender is here");
                    if self.losing.swap(false, Ordering::SeqCst) {
                        return End::Cut;
                    }
                    if self.swallowing.swap(false, Ordering::SeqCst) {
                        return End::Silent;
                    }
                    let (passed_on, is_silent) = self.until_silent(bytes);
                    let written = client.write_all(&answered[..passed_on]).await;
                    if is_silent {
                        return End::Silent;
                    }
                    written
                }
            };
            if passed_on.is_err() {
                return End::Cut;
            }
        }
    }

    /// How many of so many bytes are passed on, and whether they are the last.
    fn until_silent(&self, bytes: usize) -> (usize, bool) {
        let mut left = self.silent_after.lock().expect("no thread panics while it holds this");
        match left.take() {
            Some(last) if last <= bytes => (last, true),
            more => {
                *left = more.map(|more| more - bytes);
                (bytes, false)
            }
        }
    }

    /// Counts a request, and holds it back as long as was asked for.
    async fn hold_back(&self, text: &str) {
        {
            let mut counted = self.counted.lock().expect("no thread panics while it holds this");
            counted.1 += usize::from(!counted.0.is_empty() && text.contains(counted.0));
        }
        let mut holding = self.holding.subscribe();
        let is_held = |held: &Option<&str>| held.is_some_and(|held| text.contains(held));
        if is_held(&holding.borrow()) {
            self.held.send_modify(|held| *held += 1);
            holding.wait_for(|held| !is_held(held)).await.expect("its sender is here");
        }
        let delay = self.delaying.swap(0, Ordering::SeqCst) + self.slowing.load(Ordering::SeqCst);
        // A sleep of no time would still be one of a millisecond.
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
    }
}

/// A login in PostgreSQL's protocol without its `options`: a length, the version 3.0, names and values, each with a NUL.
fn without_options(message: &[u8]) -> Option<Vec<u8>> {
    let pairs = message.get(4..)?.strip_prefix(&[0, 3, 0, 0])?;
    let words: Vec<&[u8]> = pairs.split(|byte| *byte == 0).collect();
    let mut login = vec![0, 0, 0, 0, 0, 3, 0, 0];
    for pair in words.chunks_exact(2).filter(|pair| !pair[0].is_empty() && pair[0] != b"options") {
        login.extend([pair[0], b"\0", pair[1], b"\0"].concat());
    }
    login.push(0);
    let length = u32::try_from(login.len()).ok()?;
    login[..4].copy_from_slice(&length.to_be_bytes());
    Some(login)
}

/// The next thing that is done to all connections.
async fn next(ended: &mut watch::Receiver<End>) -> End {
    ended.changed().await.expect("its sender is here");
    *ended.borrow_and_update()
}

fn rewrite(how: &Mutex<Option<(&str, &str)>>, said: &mut [u8]) {
    let Some((text, instead)) = *how.lock().expect("no thread panics while it holds this") else { return };
    for at in 0..=said.len().saturating_sub(text.len()) {
        if said[at..].starts_with(text.as_bytes()) {
            said[at..at + text.len()].copy_from_slice(instead.as_bytes());
        }
    }
}
