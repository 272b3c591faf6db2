//! The policy: a component that imports nothing and decides an exchange. Each exchange has an instance of
//! its own, with bounds on its memory and on the processor time it takes.

use super::RouterError;
use super::config::{Config, Limits};
use super::memory::{Memory, Shared, TABLE_ELEMENTS};
use cpu_time::ThreadTime;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use thread_budget_host::{Cache, keep_time};
use wasmtime::component::Linker;
use wasmtime::{Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

pub(super) use bindings::exports::thread_budget::router::policy as contract;

mod bindings {
    #![allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
    wasmtime::component::bindgen!({
        path: ["wit", "wit/router"],
        world: "thread-budget:router/router",
        exports: { default: async },
        with: { "thread-budget:registry/types": thread_budget_host },
    });
}

/// How long an instance computes before others get their turn.
const TURN: Duration = Duration::from_millis(10);

/// Why an instance decides nothing any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// It needed more memory than there is for it.
    #[error("the request needs more memory than it may have")]
    Memory,
    /// It computed for too long.
    #[error("the request took more processor time than it may")]
    Cpu,
    /// It trapped, or asked for what it may not.
    #[error("the policy failed: {0}")]
    Policy(String),
}

/// The compiled component and its configuration. Cheap to clone.
#[derive(Clone)]
pub(super) struct Policy(Arc<Inner>);

struct Inner {
    pre: bindings::RouterPre<Memory>,
    /// The configuration, in the form that the component reads.
    configuration: Vec<u8>,
    memory: Shared,
    most_memory: usize,
    most_cpu: Duration,
}

impl Policy {
    /// Compile the component, or load it from the cache, and have it compile its configuration.
    pub(super) async fn new(component: &[u8], cache: &Cache, config: &Config) -> Result<Self, RouterError> {
        let engine = engine(&config.limits).map_err(RouterError::Engine)?;
        keep_time(&engine, TURN).map_err(RouterError::Clock)?;
        let component = cache.load_or_compile(&engine, component).map_err(RouterError::Compile)?;
        let pre = Linker::new(&engine)
            .instantiate_pre(&component)
            .and_then(bindings::RouterPre::new)
            .map_err(RouterError::Contract)?;
        let Limits { instance_memory_bytes, total_memory_bytes, cpu_ms, .. } = config.limits;
        let mut inner = Inner {
            pre,
            configuration: Vec::new(),
            memory: Shared::new(total_memory_bytes),
            most_memory: instance_memory_bytes,
            most_cpu: Duration::from_millis(cpu_ms),
        };
        let json = serde_json::to_string(&config.router_config()).map_err(RouterError::Configuration)?;
        let mut instance = inner.instantiate().await.map_err(RouterError::Contract)?;
        let compiled =
            instance.exports.thread_budget_router_policy().call_compile(&mut instance.store, &json);
        inner.configuration = compiled.await.map_err(RouterError::Contract)?.map_err(RouterError::Policy)?;
        drop(instance);
        Ok(Self(Arc::new(inner)))
    }

    /// What all instances have together beyond what each has for itself; bodies of requests draw on it too.
    pub(super) fn memory(&self) -> &Shared {
        &self.0.memory
    }

    /// An instance for an exchange.
    pub(super) async fn begin(&self) -> Result<Instance, Broken> {
        let inner = &*self.0;
        let mut instance = inner.instantiate().await.map_err(|error| Broken::Policy(format!("{error:#}")))?;
        let configured = instance
            .exports
            .thread_budget_router_policy()
            .call_configure(&mut instance.store, &inner.configuration)
            .await;
        match configured {
            Ok(Ok(())) => Ok(instance),
            Ok(Err(reason)) => Err(Broken::Policy(reason)),
            Err(error) => Err(instance.broken(&error)),
        }
    }
}

impl Inner {
    async fn instantiate(&self) -> wasmtime::Result<Instance> {
        let memory = Memory::new(&self.memory, self.most_memory);
        let mut store = Store::new(self.pre.engine(), memory);
        store.limiter(|memory| memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let exports = self.pre.instantiate_async(&mut store).await?;
        Ok(Instance { store, exports, cpu: Cpu::of(self.most_cpu) })
    }
}

/// An instance, which decides one exchange.
pub(super) struct Instance {
    store: Store<Memory>,
    exports: bindings::Router,
    cpu: Cpu,
}

impl Instance {
    /// Tell what has happened, and hear what to do.
    pub(super) async fn step(
        &mut self,
        now_ms: u64,
        event: &contract::Event,
    ) -> Result<contract::Turn, Broken> {
        let policy = self.exports.thread_budget_router_policy();
        let step = policy.call_step(&mut self.store, now_ms, event);
        let turn = metered(&mut self.cpu, step).await.ok_or(Broken::Cpu)?;
        turn.map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &wasmtime::Error) -> Broken {
        if self.store.data().refused { Broken::Memory } else { Broken::Policy(format!("{error:#}")) }
    }
}

/// wasmtime for instances that live as long as an exchange: their places are made beforehand and used again.
fn engine(limits: &Limits) -> wasmtime::Result<Engine> {
    let requests = limits.max_concurrent_requests;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(requests)
        .total_core_instances(2 * requests)
        .max_core_instances_per_component(2)
        .total_memories(requests)
        .max_memories_per_component(1)
        .total_tables(2 * requests)
        .max_tables_per_component(2)
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

/// The processor time that an instance may still take.
struct Cpu {
    /// What it has measured.
    left: Duration,
    /// What its first turns may take by the clock before they are measured, too.
    unmeasured: Duration,
}

impl Cpu {
    fn of(most: Duration) -> Self {
        Self { left: most, unmeasured: most }
    }
}

/// Do work that waits for nothing but its next turn, unless it takes more processor time than is left.
///
/// Asking for processor time costs more than most work does. So the first turns go by the clock, as long as all
/// of them together might be within what is allowed; only then, and for work that needs another turn, it is
/// measured. What a busy machine does meanwhile ends nothing.
async fn metered<R>(cpu: &mut Cpu, work: impl Future<Output = R>) -> Option<R> {
    let mut work = pin!(work);
    let mut is_first = true;
    poll_fn(move |context| {
        let by_clock = is_first && !cpu.unmeasured.is_zero();
        is_first = false;
        let (started, measured) = (Instant::now(), (!by_clock).then(ThreadTime::now));
        let result = work.as_mut().poll(context);
        match measured {
            Some(measured) => cpu.left = cpu.left.saturating_sub(measured.elapsed()),
            None => cpu.unmeasured = cpu.unmeasured.saturating_sub(started.elapsed()),
        }
        match result {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending if cpu.left.is_zero() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::thread::sleep;

    const MS: Duration = Duration::from_millis(1);

    /// Work in so many turns, each doing that.
    fn turns(count: u32, mut turn: impl FnMut()) -> impl Future<Output = ()> {
        let mut left = count;
        poll_fn(move |context| {
            turn();
            left = left.saturating_sub(1);
            if left == 0 {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    fn compute() {
        let cpu = ThreadTime::now();
        while cpu.elapsed() < MS {
            black_box(0);
        }
    }

    #[tokio::test]
    async fn time_that_others_have_ends_nothing() {
        let mut cpu = Cpu::of(10 * MS);
        for _ in 0..20 {
            assert!(metered(&mut cpu, turns(1, || sleep(2 * MS))).await.is_some());
        }
        assert!(metered(&mut cpu, turns(20, || sleep(2 * MS))).await.is_some());
    }

    #[tokio::test]
    async fn computing_ends_in_one_step_or_in_many() {
        assert!(metered(&mut Cpu::of(10 * MS), turns(100, compute)).await.is_none());
        let mut cpu = Cpu::of(10 * MS);
        let mut steps = 0;
        while metered(&mut cpu, turns(3, compute)).await.is_some() {
            steps += 1;
            assert!(steps < 30, "it goes on");
        }
        assert!(steps >= 3, "{steps}");
    }
}
