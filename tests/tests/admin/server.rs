//! An admin side to ask.

use std::net::SocketAddr;
use thread_budget_host::blocking::Registry;
use thread_budget_host::{BudgetWarning, CallError};
use thread_budget_serve::{Admin, AdminConfig, Event, Events, Health, UnidentifiedClients};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// A token that is long enough.
pub(crate) const TOKEN: &str = "secret-of-operators";

/// Stops when it is dropped.
pub(crate) struct Server {
    pub(crate) registry: Registry,
    pub(crate) events: Events,
    pub(crate) unidentified: UnidentifiedClients,
    pub(crate) address: SocketAddr,
    _runtime: Runtime,
}

impl Server {
    /// With 1,000 tokens a thread.
    pub(crate) fn start(token: Option<&str>) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), token)
    }

    pub(crate) fn start_at(address: SocketAddr, token: Option<&str>) -> Self {
        let registry = thread_budget_host::Registry::builder().tokens_per_thread(1_000).build();
        let registry = registry.expect("the component loads");
        let (events, unidentified) = (Events::default(), UnidentifiedClients::default());
        let runtime = Runtime::new().expect("there are threads to be had");
        let listener = runtime.block_on(TcpListener::bind(address)).expect("there is a port");
        let address = listener.local_addr().expect("it is bound");
        let admin = Admin {
            registry: registry.clone(),
            events: events.clone(),
            unidentified: unidentified.clone(),
            health: Health::default(),
            config: AdminConfig { token: token.map(String::from), ..AdminConfig::default() },
            metrics: None,
        };
        runtime.spawn(admin.serve(listener));
        Self { registry: registry.blocking(), events, unidentified, address, _runtime: runtime }
    }

    /// Consume as the router does: say so, and what was crossed.
    pub(crate) fn consume(&self, thread_id: &str, tokens: u64) {
        let consumed = self.registry.consume(thread_id, tokens, 0).expect("it is recorded");
        for crossed in &consumed.crossed {
            let warning = self.registry.budget_warning(crossed).expect("it is worded");
            self.events.announce(Event::Crossed(warning));
        }
        self.changed(thread_id);
    }

    /// The agent is given its pending warnings, which are no longer pending then.
    pub(crate) fn acknowledge(&self, thread_id: &str) -> Vec<BudgetWarning> {
        let warnings = self.registry.pending_warnings(thread_id).expect("it answers");
        let told: Vec<_> = warnings.iter().map(BudgetWarning::acknowledgement).collect();
        self.registry.acknowledge_warnings(thread_id, &told).expect("it is told");
        warnings
    }

    /// Check as the router does, and say that it was refused.
    pub(crate) fn refuse(&self, thread_id: &str, tokens: u64) {
        let Err(CallError::Refused(exhausted)) = self.registry.check_budget(thread_id, tokens) else {
            panic!("{tokens} fit into {thread_id}");
        };
        self.events.announce(Event::Refused { thread_id: thread_id.into(), exhausted });
    }

    pub(crate) fn changed(&self, thread_id: &str) {
        self.events.changed(thread_id);
    }
}
