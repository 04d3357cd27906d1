//! The protocol holds in every order of everything that can happen; without any one of its defences it does
//! not.

use lockstep_model::{Protocol, Without};
use stateright::{Checker, Expectation, HasDiscoveries, Model};

fn check(without: Without) -> impl Checker<Protocol> {
    Protocol { without }.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join()
}

#[test]
fn the_protocol_holds() {
    let checker = check(Without::Nothing);
    checker.assert_properties();
    assert!(checker.unique_state_count() > 1_000_000, "only {} states", checker.unique_state_count());
}

/// A named test for each defence, and one that none is missing.
macro_rules! it_breaks_without {
    ($($test:ident: $defence:ident,)*) => {
        $(
            #[test]
            fn $test() {
                assert_breaks_without(Without::$defence);
            }
        )*

        #[test]
        fn every_defence_has_a_test() {
            assert_eq!([$(Without::$defence),*], Without::DEFENCES);
        }
    };
}

it_breaks_without! {
    it_breaks_without_the_guard: Guard,
    it_breaks_without_the_fence: Fence,
    it_breaks_without_the_fence_on_disk: FenceOnDisk,
    it_breaks_without_order_and_tombstone: OrderAndTombstone,
    it_breaks_without_a_new_epoch: NewEpoch,
    it_breaks_without_the_intent_first: IntentFirst,
    it_breaks_without_the_undo_of_what_is_unknown: UndoOfUnknown,
    it_breaks_without_work_before_the_answer: WorkBeforeAnswer,
    it_breaks_without_convergence: Convergence,
}

fn assert_breaks_without(defence: Without) {
    let checker = check(defence);
    let model = Protocol { without: defence };
    let always: Vec<&str> = model
        .properties()
        .into_iter()
        .filter(|property| matches!(property.expectation, Expectation::Always))
        .map(|property| property.name)
        .collect();
    let broken = checker.discoveries().into_keys().find(|name| always.contains(name));
    assert!(
        broken.is_some(),
        "without {defence:?} nothing breaks in {} states",
        checker.unique_state_count()
    );
}
