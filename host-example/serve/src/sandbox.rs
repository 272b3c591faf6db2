//! A fresh instance of the router for every request, and all that holds it in.

use super::RouterError;
use super::config::{Config, Limits};
use super::link::{self, Budgets, RegistryFailed};
use super::logs::Log;
use super::memory::{Memory, Shared, TABLE_ELEMENTS};
use super::reply::{Body, Failure};
use super::undelivered::Taken;
use super::upstream::{Outgoing, Upstreams};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use thread_budget_host::{Cache, keep_time};
use thread_budget_router_core::VARIABLE;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::{Error, WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// How long an instance computes before others get their turn.
const TURN: Duration = Duration::from_millis(10);

/// What the host waits for beyond the router's own limit on a request's time.
const GRACE: Duration = Duration::from_secs(10);

/// The router, compiled, and what its instances work with. Cheap to clone.
#[derive(Clone)]
pub(super) struct Sandbox(Arc<Inner>);

struct Inner {
    pre: ProxyPre<State>,
    budgets: Budgets,
    upstreams: Upstreams,
    /// The router's configuration, as it reads it.
    variable: String,
    limits: Limits,
    memory: Shared,
    longest: Duration,
    requests: AtomicU64,
    stopping: watch::Receiver<bool>,
}

/// What belongs to one instance.
pub(super) struct State {
    pub(super) table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    memory: Memory,
    pub(super) budgets: Budgets,
    pub(super) taken: Vec<Taken>,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outgoing, table: &mut self.table, ctx: &mut self.http }
    }
}

/// A request's answer and what became of its instance.
type Head = Result<Response<Body>, ErrorCode>;
type Outcome = Result<(), Failure>;

impl Sandbox {
    /// Compile the component, or load it from the cache, and see that nothing is missing.
    ///
    /// When `stopping` turns true, instances that still run are ended.
    pub(super) fn new(
        component: &[u8],
        cache: &Cache,
        config: &Config,
        budgets: Budgets,
        stopping: watch::Receiver<bool>,
    ) -> Result<Self, RouterError> {
        let engine = engine(&config.limits).map_err(RouterError::Engine)?;
        keep_time(&engine, TURN).map_err(RouterError::Clock)?;
        let component = cache.load_or_compile(&engine, component).map_err(RouterError::Compile)?;
        let mut linker = Linker::new(&engine);
        let pre = wasmtime_wasi::p2::add_to_linker_async(&mut linker)
            .and_then(|()| wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker))
            .and_then(|()| link::add_to_linker(&mut linker))
            .and_then(|()| linker.instantiate_pre(&component))
            .and_then(ProxyPre::new)
            .map_err(RouterError::Contract)?;
        let variable = serde_json::to_string(&config.router_config()).map_err(RouterError::Variable)?;
        Ok(Self(Arc::new(Inner {
            pre,
            budgets,
            upstreams: Upstreams::new(config)?,
            variable,
            limits: config.limits.clone(),
            memory: Shared::new(config.limits.total_memory_bytes),
            longest: Duration::from_millis(config.router.request_timeout_ms) + GRACE,
            requests: AtomicU64::new(0),
            stopping,
        })))
    }

    /// Answer a request. Its instance goes on behind the response's head, and when the client has left.
    /// `permit` is given back when nothing of it is left.
    pub(super) async fn handle(
        &self,
        scheme: Scheme,
        request: Request<Incoming>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Response<Body>, Failure> {
        let (head, answered) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let sandbox = self.clone();
        tokio::spawn(async move {
            let number = sandbox.0.requests.fetch_add(1, Ordering::Relaxed);
            let mut store = sandbox.store(number);
            let outcome = sandbox.run(&mut store, number, scheme, request, head).await;
            // Whoever reads the answer to its end finds what it cost recorded.
            let may_be_used = store.data().outgoing.sent;
            let State { table, budgets, .. } = store.data_mut();
            budgets.settle(table, may_be_used).await;
            let _ = end.send(outcome);
            // Whoever has all permits may count on nobody using the registry.
            drop((store, sandbox));
            drop(permit);
        });
        match answered.await {
            Ok(Ok(response)) => Ok(response.map(|body| Answer { body, ended: Some(ended) }.boxed_unsync())),
            Ok(Err(error)) => {
                tracing::error!(?error, "the router gave up");
                Err(Failure::Router)
            }
            Err(_) => Err(ended.await.ok().and_then(Result::err).unwrap_or(Failure::Router)),
        }
    }

    fn store(&self, number: u64) -> Store<State> {
        let Inner { budgets, upstreams, variable, limits, memory, .. } = &*self.0;
        let state = State {
            table: ResourceTable::new(),
            wasi: WasiCtx::builder().env(VARIABLE, variable).stderr(Log::of(number)).build(),
            http: WasiHttpCtx::new(),
            outgoing: upstreams.outgoing(),
            memory: Memory::new(memory.clone(), limits.instance_memory_bytes),
            budgets: budgets.clone(),
            taken: Vec::new(),
        };
        let mut store = Store::new(self.0.pre.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store
    }

    /// Run the instance to its end, however it ends.
    async fn run(
        &self,
        store: &mut Store<State>,
        number: u64,
        scheme: Scheme,
        request: Request<Incoming>,
        head: oneshot::Sender<Head>,
    ) -> Outcome {
        let (success, mut succeeded) = oneshot::channel();
        let answer = move |answer: Head| {
            let is_success = answer.as_ref().is_ok_and(|response| response.status().as_u16() < 400);
            // The client may have left.
            let is_sent = head.send(answer).is_ok();
            let _ = success.send(is_success && is_sent);
        };
        let mut stopping = self.0.stopping.clone();
        let cpu = Duration::from_millis(self.0.limits.cpu_ms);
        let result = tokio::select! {
            result = metered(cpu, self.call(&mut *store, scheme, request, answer)) => result,
            () = tokio::time::sleep(self.0.longest) => Err(Failure::Timeout),
            _ = stopping.wait_for(|stopping| *stopping) => Err(Failure::Stopping),
        };
        let outcome = match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let failure = if store.data().memory.refused {
                    Failure::Memory
                } else if error.is::<RegistryFailed>() {
                    Failure::Registry
                } else {
                    Failure::Router
                };
                tracing::error!(request = number, error = format!("{error:#}"), "{failure}");
                Err(failure)
            }
            Err(failure) => {
                tracing::error!(request = number, "{failure}");
                Err(failure)
            }
        };
        if outcome.is_ok() && succeeded.try_recv() == Ok(true) {
            store.data_mut().taken.drain(..).for_each(Taken::delivered);
        }
        outcome
    }

    async fn call(
        &self,
        store: &mut Store<State>,
        scheme: Scheme,
        request: Request<Incoming>,
        answer: impl FnOnce(Head) + Send + Sync + 'static,
    ) -> wasmtime::Result<()> {
        let request = store.data_mut().http().new_incoming_request(scheme, request)?;
        let answer = store.data_mut().http().new_response_outparam_from_callback(answer)?;
        let instance = self.0.pre.instantiate_async(&mut *store).await?;
        instance.wasi_http_incoming_handler().call_handle(store, request, answer).await
    }
}

fn engine(limits: &Limits) -> wasmtime::Result<Engine> {
    let requests = limits.max_concurrent_requests;
    let mut pool = PoolingAllocationConfig::new();
    // A component is made of several modules and their tables; the linker's own adapters are some.
    pool.total_component_instances(requests)
        .total_core_instances(8 * requests)
        .max_core_instances_per_component(8)
        .total_memories(requests)
        .max_memories_per_component(1)
        .total_tables(4 * requests)
        .max_tables_per_component(4)
        .table_elements(TABLE_ELEMENTS)
        .total_stacks(requests)
        // What an instance touched is cleared and stays for the next: half the time in the kernel. Where Linux
        // says what was touched, no more than that is cleared.
        .linear_memory_keep_resident(1 << 20)
        .table_keep_resident(64 << 10)
        .async_stack_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto)
        .max_memory_size(limits.instance_memory_bytes);
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(true);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// Do the work, unless it computes for longer than that. Work that waits costs nothing.
async fn metered<R>(limit: Duration, work: impl Future<Output = R>) -> Result<R, Failure> {
    let mut work = pin!(work);
    let mut used = Duration::ZERO;
    poll_fn(move |context| {
        let started = Instant::now();
        let result = work.as_mut().poll(context);
        used += started.elapsed();
        match result {
            Poll::Ready(result) => Poll::Ready(Ok(result)),
            Poll::Pending if used > limit => Poll::Ready(Err(Failure::Cpu)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// The router's answer. It is whole only when its instance ended well: one that broke on the way would
/// look the same otherwise.
struct Answer {
    body: Body,
    ended: Option<oneshot::Receiver<Outcome>>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) else {
            let Some(ended) = &mut self.ended else { return Poll::Ready(None) };
            let outcome = ready!(Pin::new(ended).poll(context));
            self.ended = None;
            return Poll::Ready(match outcome {
                Ok(Ok(())) => None,
                _ => Some(Err(Error::InternalError(None))),
            });
        };
        Poll::Ready(Some(frame))
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
