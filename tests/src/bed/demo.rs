//! A demonstration: a cluster that is built, used step by step, and removed.
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::bed::cluster::Cluster;
use crate::bed::plan::Plan;
use crate::bed::process::exit_code;
use crate::bed::run::Run;

/// The counter of the steps.
#[derive(Debug, Default)]
pub struct Steps(u32);

impl Steps {
    /// Begins the next step.
    pub fn step(&mut self, title: &str) {
        self.0 += 1;
        println!("\n{}. {title}", self.0);
    }
}

/// Runs a demonstration on the cluster of a plan. Nothing runs on the cluster yet. A failure is reported with its step
/// and the daemons' logs.
pub fn demonstrate(plan: &Plan, play: impl FnOnce(&mut Steps, &mut Cluster) -> Result<()>) -> ExitCode {
    exit_code(demonstrated(plan, play))
}

fn demonstrated(plan: &Plan, play: impl FnOnce(&mut Steps, &mut Cluster) -> Result<()>) -> Result<()> {
    let mut cluster = Cluster::lay(Run::unique()?, plan).context("the network cannot be laid")?;
    let mut steps = Steps::default();
    let played = play(&mut steps, &mut cluster);
    if played.is_err() {
        eprint!("{}", cluster.logs());
    }
    played.with_context(|| format!("step {} failed", steps.0))?;
    println!("\nall steps passed");
    Ok(())
}
