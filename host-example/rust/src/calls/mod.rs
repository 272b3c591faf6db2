//! The calls that change what a registry keeps. What a caller does now and what is read back from a file's
//! log is carried out by the same code, [`Call::apply`].
//!
//! The component is deterministic, without a clock and without entropy, so the same calls in the same
//! order lead to the same state.

mod requests;
mod settings;
mod threads;

use crate::error::CallError;
use crate::instance::Instance;
use serde::{Deserialize, Serialize};

pub(crate) use requests::{Consume, ConsumeBatch, Release, SetHold, Settle, SettleLost};
pub(crate) use settings::{Clear, Configure, SetMaxThreads, SetNextBirth, SetThresholds};
pub(crate) use threads::{
    AcknowledgeWarnings, CheckBudget, CheckThresholds, CleanupThread, GetBudget, OpenThread, ResetThread,
    SetLimit, check_thresholds,
};

/// A call that may change something.
pub(crate) trait Call {
    /// What the caller is told.
    type Answer;

    /// Its name in the contract.
    const NAME: &'static str;

    /// Whether all that it changes is that its thread exists.
    const CREATES: bool = false;

    /// Whether its caller waits until what it did is on disk.
    const WAITS: bool = true;

    /// Whether it lets work in.
    const ADMITS: bool = false;

    /// The thread that it is about; settings are about none.
    fn thread_id(&self) -> &str {
        ""
    }

    /// Carry it out. Nothing that an instance might not fit into its memory gets to it.
    fn apply(&self, instance: &mut Instance) -> Result<Self::Answer, CallError>;

    /// Whether it changed something, of one that was not refused.
    fn changed(&self, _: &Self::Answer) -> bool {
        true
    }

    /// Carry it out again, for nobody.
    fn replay(&self, instance: &mut Instance) -> Result<(), CallError> {
        self.apply(instance).map(drop)
    }

    /// As the log keeps it.
    fn operation(&self) -> Operation<'_>;
}

/// Every call, as a record of the log. Files know each by its place here: new ones go to the end.
macro_rules! operations {
    ($($call:ident $(<$life:lifetime>)?),* $(,)?) => {
        #[derive(Clone, Debug, Serialize, Deserialize)]
        pub(crate) enum Operation<'a> {
            $($call($call $(<$life>)?)),*
        }

        impl Operation<'_> {
            /// Carry it out, for nobody.
            pub(crate) fn replay(&self, instance: &mut Instance) -> Result<(), CallError> {
                match self { $(Self::$call(call) => call.replay(instance)),* }
            }

            /// The thread that it is about.
            pub(crate) fn thread_id(&self) -> &str {
                match self { $(Self::$call(call) => call.thread_id()),* }
            }
        }
    };
}

operations! {
    Configure, SetThresholds<'a>, SetMaxThreads, SetNextBirth, GetBudget<'a>, CheckBudget<'a>, Consume<'a>,
    ConsumeBatch<'a>, SetHold<'a>, Settle<'a>, SettleLost<'a>, Release<'a>, OpenThread<'a>, SetLimit<'a>,
    AcknowledgeWarnings<'a>, ResetThread<'a>, CleanupThread<'a>, Clear, CheckThresholds<'a>,
}

impl Operation<'_> {
    /// How many records it makes: each entry of a batch is one.
    pub(crate) fn records(&self) -> u64 {
        match self {
            Self::ConsumeBatch(ConsumeBatch { entries }) => entries.len() as u64,
            _ => 1,
        }
    }
}

/// What of [`Call`] is said in a word each.
macro_rules! call {
    ($name:literal, $call:ident -> $answer:ty $(, of $thread_id:ident)?) => {
        type Answer = $answer;

        const NAME: &'static str = $name;

        $(fn thread_id(&self) -> &str {
            &self.$thread_id
        })?

        fn operation(&self) -> Operation<'_> {
            Operation::$call(self.clone())
        }
    };
}
use call;
