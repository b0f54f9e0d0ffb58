//! Threads that need no capability.
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// Gives up every capability of this thread.
pub(crate) fn give_up_all() {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    if let Err(error) = set_capabilities(None, sets) {
        tracing::warn!(%error, "a thread cannot give up its capabilities");
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rustix::thread::capabilities;

    use super::*;

    #[test]
    fn a_thread_gives_up_its_own_and_no_others() {
        let before = capabilities(None).unwrap();
        let left = thread::spawn(|| {
            give_up_all();
            capabilities(None).unwrap()
        });
        let left = left.join().unwrap();
        assert!((left.effective | left.permitted | left.inheritable).is_empty());
        assert_eq!(capabilities(None).unwrap().permitted, before.permitted);
    }
}
