use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A way to a server that a test can disturb.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    way: AtomicU8,
    /// The connections there are, so that they can be broken.
    open: Mutex<Vec<TcpStream>>,
    /// How many there have been.
    number: AtomicU8,
}

/// All is passed on.
const OPEN: u8 = 0;
/// New connections are closed at once.
const CLOSED: u8 = 1;

impl Proxy {
    pub(crate) fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let open = Mutex::new(Vec::new());
        let state = Arc::new(State { way: AtomicU8::new(OPEN), open, number: AtomicU8::new(0) });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.way.load(Ordering::SeqCst) == OPEN
                    && let Ok(server) = TcpStream::connect(server)
                {
                    shared.connect(client, server);
                }
            }
        });
        Self { address, state }
    }

    /// The URL with this address instead of the server's.
    pub(crate) fn url(&self, url: &str) -> String {
        let (before, rest) = url.split_once('@').expect("a URL with a user");
        let (_, after) = rest.split_once('/').expect("a URL with a database");
        format!("{before}@{}/{after}", self.address)
    }

    /// Breaks all connections, and refuses new ones until [`open`](Self::open).
    pub(crate) fn close(&self) {
        self.state.way.store(CLOSED, Ordering::SeqCst);
        for connection in self.state.open.lock().expect("connections").drain(..) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
    }

    pub(crate) fn open(&self) {
        self.state.way.store(OPEN, Ordering::SeqCst);
    }

    /// From now on the connections that there are swallow everything, as when a load balancer has forgotten them. New ones
    /// work.
    pub(crate) fn forget(&self) {
        self.state.number.fetch_add(1, Ordering::SeqCst);
    }
}

impl State {
    fn connect(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let number = self.number.load(Ordering::SeqCst);
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
            self.open.lock().expect("connections").push(to.try_clone().expect("a socket"));
            let state = Arc::clone(self);
            thread::spawn(move || state.pass_on(from, to, number));
        }
    }

    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream, number: u8) {
        let mut part = [0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut part) {
            while self.number.load(Ordering::SeqCst) != number {
                thread::sleep(Duration::from_millis(100));
            }
            if to.write_all(&part[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    }
}
