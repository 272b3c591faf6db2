//! The threads that serve connections: one a processor, each with a runtime of its own, so that what belongs to
//! a connection never changes its processor. A new connection goes to the one that has fewest.

use super::RouterError;
use super::connections::Place;
use super::listener::Server;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};

/// The threads. They end when `over` turns true.
pub(super) struct Workers {
    all: Vec<Worker>,
    over: watch::Sender<bool>,
}

struct Worker {
    connections: mpsc::UnboundedSender<(TcpStream, Place, Load)>,
    load: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// A connection that a worker has.
struct Load(Arc<AtomicUsize>);

impl Load {
    fn on(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(load.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Start one for each processor, with the server that `make` makes for it.
    pub(super) fn start(
        mut make: impl FnMut() -> Result<Server, RouterError>,
        stop: &watch::Receiver<bool>,
    ) -> Result<Self, RouterError> {
        let (over, _) = watch::channel(false);
        let count = thread::available_parallelism().map_or(1, Into::into);
        let mut all = Vec::with_capacity(count);
        for number in 0..count {
            let server = make()?;
            let (connections, mut received) = mpsc::unbounded_channel::<(TcpStream, Place, Load)>();
            let runtime = Builder::new_current_thread().enable_all().build().map_err(RouterError::Thread)?;
            let (stop, mut is_over) = (stop.clone(), over.subscribe());
            let serve = async move {
                while let Some((stream, place, load)) = received.recv().await {
                    let (server, stop) = (server.clone(), stop.clone());
                    tokio::spawn(async move {
                        server.connection(stream, place, stop).await;
                        drop(load);
                    });
                }
                std::future::pending::<()>().await;
            };
            let thread = thread::Builder::new()
                .name(format!("thread-budget-{number}"))
                .spawn(move || {
                    runtime.block_on(async {
                        tokio::select! {
                            () = serve => {}
                            _ = is_over.wait_for(|over| *over) => {}
                        }
                    });
                })
                .map_err(RouterError::Thread)?;
            all.push(Worker { connections, load: Arc::default(), thread });
        }
        Ok(Self { all, over })
    }

    /// Have one of them serve a connection.
    pub(super) fn serve(&self, stream: TcpStream, place: Place) {
        let least = self.all.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed));
        if let Some(worker) = least {
            let load = Load::on(&worker.load);
            // It fails when they have ended.
            let _ = worker.connections.send((stream, place, load));
        }
    }

    /// End them, and whatever they still do, and wait until they have ended.
    pub(super) fn end(mut self) {
        self.over.send_replace(true);
        for worker in self.all.drain(..) {
            if worker.thread.join().is_err() {
                tracing::error!("a thread that served connections has panicked");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.over.send_replace(true);
    }
}
