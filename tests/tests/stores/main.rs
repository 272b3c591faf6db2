//! Registries that share a store: as one registry in memory, however many they are, whatever becomes of them and
//! of what they send.

mod crowd;
mod faults;
mod hosts;
mod rules;

use std::sync::Arc;
use thread_budget_host::blocking::Registry;
use thread_budget_host::store::{Memory, Store};
use thread_budget_host::{HoldTerms, RegistryBuilder};

fn memory() -> Arc<dyn Store> {
    Arc::new(Memory::new(None))
}

fn builder(store: &Arc<dyn Store>) -> RegistryBuilder {
    RegistryBuilder::default().tokens_per_thread(1_000).store_at(store.clone())
}

fn registry(store: &Arc<dyn Store>) -> Registry {
    build(builder(store))
}

fn build(builder: RegistryBuilder) -> Registry {
    builder.build().unwrap_or_else(|error| panic!("{error}")).blocking()
}

fn used(registry: &Registry, thread_id: &str) -> (u64, u64) {
    let usage = registry.get_usage(thread_id).expect("it answers").expect("it exists");
    (usage.prompt_tokens, usage.completion_tokens)
}

/// What a host asks for that is gone at that time.
fn terms(registry: &Registry, prompt_tokens: u64, completion_tokens: u64) -> HoldTerms {
    HoldTerms {
        prompt_tokens,
        completion_tokens,
        least_completion_tokens: completion_tokens,
        holder: registry.holder(),
        deadline: 0,
    }
}
