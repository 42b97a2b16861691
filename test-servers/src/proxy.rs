use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

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
    /// For how many milliseconds the next thing that the client says is held back.
    delaying: AtomicU64,
    /// How often the client has spoken after the server.
    round_trips: AtomicUsize,
    /// Whether replies are kept back.
    keeping: watch::Sender<bool>,
    cut: Notify,
    /// Whether new connections are refused.
    closed: AtomicBool,
    /// Connections of an earlier one are forgotten.
    generation: watch::Sender<u64>,
    /// The text of a request that is held back.
    holding: watch::Sender<Option<&'static str>>,
    /// How many requests are or were held back.
    held: watch::Sender<usize>,
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
                let server = watched.server.lock().expect("nobody panics").clone();
                let server = TcpStream::connect(&server).await.expect("the server");
                tokio::spawn(Arc::clone(&watched).forward(client, server));
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
        *self.state.server.lock().expect("nobody panics") = place.split('/').next().unwrap().to_owned();
    }

    /// Loses the next thing that the server says, and the connection with it.
    pub fn lose_the_next_reply(&self) {
        self.state.losing.store(true, Ordering::SeqCst);
    }

    /// Holds the next thing that a client says back for a while.
    pub fn delay_the_next_request(&self, milliseconds: u64) {
        self.state.delaying.store(milliseconds, Ordering::SeqCst);
    }

    /// Keeps all replies back until the connections are cut.
    pub fn keep_replies(&self) {
        self.state.keeping.send_replace(true);
    }

    /// Cuts all connections, whose replies are lost; new ones work.
    pub fn cut(&self) {
        self.state.cut.notify_waiters();
        self.state.keeping.send_replace(false);
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
        self.state.generation.send_modify(|generation| *generation += 1);
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

    /// The round trips since the last question.
    pub fn round_trips(&self) -> usize {
        self.state.round_trips.swap(0, Ordering::SeqCst)
    }
}

impl State {
    async fn forward(self: Arc<Self>, mut client: TcpStream, mut server: TcpStream) {
        let (mut said, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
        let mut clients_turn = true;
        let mut keeping = self.keeping.subscribe();
        let mut generation = self.generation.subscribe();
        loop {
            tokio::select! {
                biased;
                () = self.cut.notified() => return,
                // Open, and silent for good.
                _ = generation.changed() => return self.cut.notified().await,
                Ok(bytes @ 1..) = client.read(&mut said) => {
                    if clients_turn {
                        self.round_trips.fetch_add(1, Ordering::SeqCst);
                        clients_turn = false;
                    }
                    let mut holding = self.holding.subscribe();
                    let text = String::from_utf8_lossy(&said[..bytes]);
                    let is_held = |held: &Option<&str>| held.is_some_and(|held| text.contains(held));
                    if is_held(&holding.borrow()) {
                        self.held.send_modify(|held| *held += 1);
                        holding.wait_for(|held| !is_held(held)).await.unwrap();
                    }
                    let delay = self.delaying.swap(0, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(delay)).await;
                    server.write_all(&said[..bytes]).await.unwrap();
                }
                Ok(bytes @ 1..) = server.read(&mut answered) => {
                    clients_turn = true;
                    tokio::select! {
                        biased;
                        () = self.cut.notified() => return,
                        _ = keeping.wait_for(|keeping| !keeping) => {}
                    }
                    if self.losing.swap(false, Ordering::SeqCst) || client.write_all(&answered[..bytes]).await.is_err() {
                        return;
                    }
                }
                else => return,
            }
        }
    }
}
