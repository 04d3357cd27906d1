//! Names, ids, digests, durations and names of images, as they come in messages, commands and files.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use lockstep_core::id::{ClusterId, DeploymentId, Digest, HostId, StepId};
use lockstep_core::image::{self, RegistryName};
use lockstep_core::name::{
    ApplicationName, CoordinatorName, EnvironmentKey, HostName, OperatorName, ProcessName,
};
use lockstep_core::object_name::ObjectName;
use lockstep_core::plan::PlanHash;
use lockstep_core::record::grant::WideningHash;
use lockstep_core::time::Millis;

fuzz_target!(|text: &str| {
    is_read_as_shown::<ClusterId>(text);
    is_read_as_shown::<DeploymentId>(text);
    is_read_as_shown::<HostId>(text);
    is_read_as_shown::<Digest>(text);
    is_read_as_shown::<PlanHash>(text);
    is_read_as_shown::<WideningHash>(text);
    is_read_as_shown::<ApplicationName>(text);
    is_read_as_shown::<HostName>(text);
    is_read_as_shown::<OperatorName>(text);
    is_read_as_shown::<CoordinatorName>(text);
    is_read_as_shown::<ProcessName>(text);
    is_read_as_shown::<EnvironmentKey>(text);
    is_read_as_shown::<ObjectName>(text);
    is_read_as_shown::<RegistryName>(text);
    if let Ok(step) = text.parse::<StepId>() {
        assert_eq!(step.to_string().parse::<StepId>(), Ok(step));
    }
    if let Ok(key) = text.parse::<EnvironmentKey>() {
        for name in [ObjectName::encode(&key), ObjectName::legacy(&key)] {
            assert_eq!(name.to_string().parse::<ObjectName>().as_ref(), Ok(&name), "{key}");
        }
    }
    if let Ok(length) = Millis::parse(text) {
        // As it is shown, people read it.
        assert_eq!(Millis::parse(&format!("{}ms", length.0)), Ok(length), "{text}");
        assert!(!length.to_string().is_empty(), "{text}");
    }
    image_is_taken_apart(text);
});

fn is_read_as_shown<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert_eq!(read.to_string(), text);
    }
}

fn image_is_taken_apart(text: &str) {
    let repository = image::repository(text);
    assert!(text.starts_with(repository), "{repository:?} of {text:?}");
    if let Some(tag) = image::tag(text) {
        assert!(tag == "latest" || text.contains(&format!(":{tag}")), "{tag:?} of {text:?}");
    }
    // A name with two tags is none, and Docker refuses it.
    let has_two_tags = image::repository(repository) != repository;
    assert!(has_two_tags || image::same_repository(text, repository), "{repository:?} of {text:?}");
    let registry = RegistryName::of_image(text);
    assert_eq!(registry.to_string().parse(), Ok(registry));
}
