//! Scenes: the tool for each form of `delegation show` accepts it, and every form has the same records.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::delegation_records::{Dialect, Sets, in_terraform, in_zone_file};
use anyhow::{Context as _, Result, ensure};
use dns_xdp_tests::bed::parent::{self, PARENT};
use dns_xdp_tests::bed::plan::Plan;
use dns_xdp_tests::bed::process;
use dns_xdp_tests::bed::run::Run;
use serde_json::Value;

/// Whether a change batch is valid by the model of the provider's own library, enumerations included.
const ROUTE_53: &str = r#"
import json, sys
import botocore.session
from botocore.validate import ParamValidator
model = botocore.session.get_session().get_service_model("route53")
batch = json.load(open(sys.argv[1]))
shape = model.operation_model("ChangeResourceRecordSets").input_shape
report = ParamValidator().validate({"HostedZoneId": "Z0", "ChangeBatch": batch}, shape)
if report.has_errors():
    sys.exit(report.generate_report())
for change in batch["Changes"]:
    assert change["Action"] in model.shape_for("ChangeAction").enum, change
    assert change["ResourceRecordSet"]["Type"] in model.shape_for("RRType").enum, change
"#;

/// The commands of `gcloud` and `az` that scripts use, as in their reference pages; the zone is a file. Other commands
/// are refused. The addresses for an NS set have to exist already.
const PROVIDER: &str = include_str!("delegation_records/provider.py");

#[test]
#[ignore = "needs NSD, nsupdate and botocore: cargo xtask test net"]
fn each_form_is_taken_by_what_it_is_for() -> Result<()> {
    let forms = Forms::new()?;
    forms.write("zone", &parent::zone(&forms.show("bind")?))?;
    process::succeed(Command::new("nsd-checkzone").arg(PARENT).arg(forms.path("zone")), "")?;

    // The script shows its update instead of sending it, and is otherwise unchanged.
    let script = forms.show("nsupdate")?.replace("\nsend\n", "\nshow\n");
    let message = process::succeed(&mut Command::new("nsupdate"), &script)?;
    assert_eq!(message.matches("\tANY\t").count(), 1 + 2 * 2, "{message}");
    assert_eq!(message.matches("\t60\tIN\t").count(), 2 + 2 * 2, "{message}");

    forms.write("batch", &forms.show("route53")?)?;
    process::succeed(Command::new("python3").args(["-c", ROUTE_53]).arg(forms.path("batch")), "")?;
    let batch: Value = serde_json::from_str(&forms.show("route53")?)?;
    let mut sets = Sets::new();
    for change in batch["Changes"].as_array().context("no changes")? {
        let set = &change["ResourceRecordSet"];
        let text = |field: &str| set[field].as_str().map(str::to_owned).context("no text");
        let records = set["ResourceRecords"].as_array().context("no records")?;
        let records = records.iter().map(|record| record["Value"].as_str().map(str::to_owned));
        let records = records.collect::<Option<_>>().context("no value")?;
        sets.insert((text("Name")?, text("Type")?), (set["TTL"].as_u64().context("no ttl")?, records));
    }
    assert_eq!(sets, forms.expected()?);
    Ok(())
}

#[test]
#[ignore = "needs the daemon's binary: cargo xtask test net"]
fn terraform_makes_the_records_of_the_zone_file() -> Result<()> {
    let forms = Forms::new()?;
    for (form, dialect) in [
        ("terraform-aws", Dialect::Aws),
        ("terraform-google", Dialect::Google),
        ("terraform-azurerm", Dialect::Azurerm),
    ] {
        let text = forms.show(form)?;
        let sets = in_terraform(&text, dialect).with_context(|| format!("{form}: {text}"))?;
        assert_eq!(sets, forms.expected()?, "{form}");
    }
    Ok(())
}

#[test]
#[ignore = "needs the daemon's binary and python3: cargo xtask test net"]
fn scripts_make_the_records_of_the_zone_file_and_do_no_harm_twice() -> Result<()> {
    let forms = Forms::new()?;
    for (form, program, variable) in [("gcloud", "gcloud", "MANAGED_ZONE"), ("azure", "az", "RESOURCE_GROUP")]
    {
        forms.install(program)?;
        forms.write(form, &forms.show(form)?)?;
        // Without the variable nothing is done.
        let refused = forms.run(form, None)?;
        let told = String::from_utf8_lossy(&refused.stderr);
        ensure!(!refused.status.success() && told.contains(variable), "{form}: {refused:?}");
        ensure!(!forms.path("state").exists(), "{form} has done something without its variable");
        for turn in ["once", "twice"] {
            let done = forms.run(form, Some(variable))?;
            ensure!(done.status.success(), "{form} {turn}: {}", String::from_utf8_lossy(&done.stderr));
            assert_eq!(forms.state()?, forms.expected()?, "{form} {turn}");
        }
        // An older set is replaced, not extended.
        let state = fs::read_to_string(forms.path("state"))?;
        let stale = state.replace("192.0.2.11", "192.0.2.99").replace("60", "86400");
        ensure!(stale != state, "{state}");
        forms.write("state", &stale)?;
        let done = forms.run(form, Some(variable))?;
        ensure!(done.status.success(), "{form}: {}", String::from_utf8_lossy(&done.stderr));
        let sets = forms.state()?;
        let glue = &sets[&("ns1.demo.example.com.".to_owned(), "A".to_owned())];
        assert_eq!(glue.1, ["192.0.2.11".to_owned()].into(), "{form}: {sets:?}");
        fs::remove_file(forms.path("state"))?;
    }
    Ok(())
}

/// A configuration of two nodes, and a directory for its output.
struct Forms {
    directory: tempfile::TempDir,
}

impl Forms {
    fn new() -> Result<Forms> {
        let forms = Forms { directory: tempfile::tempdir()? };
        forms.write("config", &Plan::new(2).config(&Run::existing("forms"), 1))?;
        Ok(forms)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.path(file), text)?)
    }

    fn show(&self, form: &str) -> Result<String> {
        show(&self.path("config"), form)
    }

    /// The records that every form has to have: the lines of the zone file, which NSD accepts.
    fn expected(&self) -> Result<Sets> {
        let sets = in_zone_file(&self.show("bind")?)?;
        ensure!(sets.len() == 5, "an NS set, and both addresses of two servers: {sets:?}");
        Ok(sets)
    }

    /// Puts the stand-in for a provider's program where scripts find it.
    fn install(&self, program: &str) -> Result<()> {
        let path = self.path("bin").join(program);
        fs::create_dir_all(self.path("bin"))?;
        fs::write(&path, PROVIDER)?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
    }

    /// Runs a script as its next step says, with its variable or without.
    fn run(&self, script: &str, variable: Option<&str>) -> Result<Output> {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command.arg(self.path(script)).env("PATH", format!("{}:{path}", self.path("bin").display()));
        command.env_remove("MANAGED_ZONE").env_remove("RESOURCE_GROUP");
        command.env("STATE", self.path("state")).env("ZONE", format!("{PARENT}."));
        command.envs(variable.map(|variable| (variable, "ours")));
        process::output(&mut command, "")
    }

    fn state(&self) -> Result<Sets> {
        let state: Value = serde_json::from_str(&fs::read_to_string(self.path("state"))?)?;
        let sets = state.as_array().context("no sets")?.iter().map(|set| {
            let text = |field: &str| set[field].as_str().map(str::to_owned);
            let records = set["records"].as_array()?.iter();
            let records = records.map(|record| record.as_str().map(str::to_owned)).collect::<Option<_>>()?;
            Some(((text("owner")?, text("type")?), (set["ttl"].as_u64()?, records)))
        });
        sets.collect::<Option<_>>().with_context(|| format!("{state}"))
    }
}

fn show(config: &Path, form: &str) -> Result<String> {
    let mut command = Command::new(process::sibling("dns-xdp")?);
    command.args(["delegation", "show", "--format", form, "--config"]).arg(config);
    process::succeed(&mut command, "")
}
