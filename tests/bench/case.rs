//! What can be measured, and how much of it.

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    DeployOverhead,
    RollbackSeconds,
    SwitchLoss,
    SwitchThroughput,
    AgentIdleRss,
    CoordinatorIdleRss,
    AgentIdleCpu,
    EtcdOverhead,
    TransitionCost,
    TakeoverSeconds,
    FanoutHosts,
    FanoutCost,
    FanoutRss,
    FanoutIdleCpu,
    FanoutOnEtcd,
    ManyStatus,
    ManyPlan,
    ManyIdleCpu,
    Redaction,
}

impl Case {
    pub(crate) const ALL: [Self; 19] = [
        Self::DeployOverhead,
        Self::RollbackSeconds,
        Self::SwitchLoss,
        Self::SwitchThroughput,
        Self::AgentIdleRss,
        Self::CoordinatorIdleRss,
        Self::AgentIdleCpu,
        Self::EtcdOverhead,
        Self::TransitionCost,
        Self::TakeoverSeconds,
        Self::FanoutHosts,
        Self::FanoutCost,
        Self::FanoutRss,
        Self::FanoutIdleCpu,
        Self::FanoutOnEtcd,
        Self::ManyStatus,
        Self::ManyPlan,
        Self::ManyIdleCpu,
        Self::Redaction,
    ];

    /// Those that have a cluster of their own.
    pub(crate) const CLUSTER: [Self; 3] = [Self::EtcdOverhead, Self::TransitionCost, Self::TakeoverSeconds];

    /// One run with many hosts gives all of them: who asks for the first gets the others too.
    pub(crate) const FANOUT: [Self; 5] =
        [Self::FanoutHosts, Self::FanoutCost, Self::FanoutRss, Self::FanoutIdleCpu, Self::FanoutOnEtcd];

    /// One run with many environments gives all of them.
    pub(crate) const MANY: [Self; 3] = [Self::ManyStatus, Self::ManyPlan, Self::ManyIdleCpu];

    pub(crate) const IDLE: [Self; 3] = [Self::AgentIdleRss, Self::CoordinatorIdleRss, Self::AgentIdleCpu];

    /// What is compared with another revision where no case is named.
    pub(crate) const COMPARED: [Self; 9] = [
        Self::DeployOverhead,
        Self::RollbackSeconds,
        Self::AgentIdleRss,
        Self::CoordinatorIdleRss,
        Self::AgentIdleCpu,
        Self::FanoutHosts,
        Self::FanoutCost,
        Self::FanoutRss,
        Self::FanoutIdleCpu,
    ];

    /// These cases, in groups that one run measures together.
    pub(crate) fn in_runs(cases: &[Self]) -> Vec<Vec<Self>> {
        let mut runs: Vec<Vec<Self>> = Vec::new();
        for case in cases {
            match runs.iter_mut().find(|run| run.iter().any(|other| other.is_of_one_run_with(*case))) {
                Some(run) => run.push(*case),
                None => runs.push(vec![*case]),
            }
        }
        runs
    }

    fn is_of_one_run_with(self, other: Self) -> bool {
        let groups: [&[Self]; 3] = [&Self::FANOUT, &Self::MANY, &Self::IDLE];
        groups.iter().any(|group| group.contains(&self) && group.contains(&other))
    }

    pub(crate) fn is_better_when_higher(self) -> bool {
        matches!(self, Self::SwitchThroughput | Self::Redaction)
    }

    /// Whether it is measured without the stage that the others share.
    pub(crate) fn has_own_stage(self) -> bool {
        let groups: [&[Self]; 4] = [&Self::CLUSTER, &Self::FANOUT, &Self::MANY, &[Self::Redaction]];
        groups.iter().any(|group| group.contains(&self))
    }

    /// As it stands in the report and is asked for.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DeployOverhead => "deploy_overhead",
            Self::RollbackSeconds => "rollback_seconds",
            Self::SwitchLoss => "switch_loss",
            Self::SwitchThroughput => "switch_throughput",
            Self::AgentIdleRss => "agent_idle_rss_mib",
            Self::CoordinatorIdleRss => "coordinator_idle_rss_mib",
            Self::AgentIdleCpu => "agent_idle_cpu_percent",
            Self::EtcdOverhead => "etcd_overhead",
            Self::TransitionCost => "transition_cost",
            Self::TakeoverSeconds => "takeover_seconds",
            Self::FanoutHosts => "fanout_hosts",
            Self::FanoutCost => "fanout_cost_per_host",
            Self::FanoutRss => "fanout_kib_per_host",
            Self::FanoutIdleCpu => "fanout_idle_cpu_percent",
            Self::FanoutOnEtcd => "fanout_hosts_etcd",
            Self::ManyStatus => "many_environments",
            Self::ManyPlan => "many_environments_plan",
            Self::ManyIdleCpu => "many_environments_idle_cpu",
            Self::Redaction => "redaction",
        }
    }

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|case| case.name() == name)
    }
}

/// How much of everything is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// The size of the database that is dumped.
    pub(crate) database_mib: u64,
    /// The most hosts that are deployed to.
    pub(crate) hosts_max: usize,
    /// The most environments that one coordinator has.
    pub(crate) environments_max: usize,
    pub(crate) effort: Effort,
}

/// How long is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Long enough for a figure of its own.
    Whole,
    /// One of several samples, which are a figure together.
    Sample,
}

impl Effort {
    /// So many for a figure, and fewer for a sample.
    pub(crate) fn choose(self, whole: usize, sample: usize) -> usize {
        match self {
            Self::Whole => whole,
            Self::Sample => sample,
        }
    }
}
