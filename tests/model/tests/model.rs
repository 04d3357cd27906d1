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

#[test]
fn without_any_one_defence_it_does_not() {
    for defence in Without::DEFENCES {
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
}
