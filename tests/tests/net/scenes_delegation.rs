//! Scenes: the findings of `delegation verify` are right.
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::parent;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use serde_json::Value;

/// The longest time of a bounded run: two attempts of 2 s each, at most twice one after another.
const VERIFIED_WITHIN: Duration = Duration::from_secs(15);

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_healthy_delegation_is_verified_from_end_to_end() {
    scene(&Plan::quick(3), |cluster| {
        cluster.delegate()?;
        cluster.resolve()?;
        let start = Instant::now();
        let findings = Findings::of(&cluster.verify(&["--json"])?)?;
        assert!(start.elapsed() < VERIFIED_WITHIN, "{:?}", start.elapsed());
        assert_eq!((findings.code, findings.bad().len()), (0, 0), "{}", findings.text);
        let places = 3 * 2;
        for (check, count) in [
            ("servers", 1),
            ("parent-ns", 1),
            ("parent-glue", 3),
            ("parent-ttl", 1),
            ("server-udp", places),
            ("server-tcp", places),
            ("server-ns", places),
            ("server-ttl", places),
            ("server-axfr", places),
            ("server-recursion", places),
            ("resolver", 1),
            ("resolver-ttl", 1),
        ] {
            assert_eq!(findings.ok(check), count, "{check}: {}", findings.text);
        }

        // A server of the cluster does not serve the parent zone.
        let own = cluster.nodes[0].ipv4().to_string();
        let findings = Findings::of(&cluster.verify(&["--json", "--parent-ns", &own])?)?;
        assert_eq!(
            (findings.code, findings.bad()),
            (1, vec![("fail", "parent-ns", own)]),
            "{}",
            findings.text
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn each_defect_is_told_by_its_own_line_and_by_the_exit_code() {
    scene(&Plan::quick(3), |cluster| {
        cluster.delegate()?;
        cluster.resolve()?;
        let right = cluster.delegation()?;
        let (dead, other) = (cluster.nodes[1].addresses, cluster.nodes[2].addresses);
        let ns = |number: u8| format!("ns{number}.{ZONE}.");
        let at = |number: u8, address| format!("ns{number}.{ZONE}. {address}");

        let wrong_glue = right.replace("192.0.2.12", "192.0.2.99");
        told(cluster, &wrong_glue, 1, &[("fail", "parent-glue", ns(2))])?;

        let missing: Vec<&str> = right.lines().filter(|line| !line.contains(&ns(3))).collect();
        let asked = parent::ADDRESSES[0].to_string();
        told(cluster, &(missing.join("\n") + "\n"), 1, &[("fail", "parent-ns", asked.clone())])?;
        told(cluster, "", 1, &[("fail", "parent-ns", asked.clone())])?;

        let long = right.replace("  60  IN", "  86400  IN");
        told(cluster, &long, 3, &[("warn", "parent-ttl", asked)])?;

        // The third server has another configuration, which is compared with the first one's.
        cluster.nodes[2].edit_config("[zone]\n", "[zone]\nns-ttl = \"50s\"\n")?;
        cluster.nodes[2].cli_ok(&["reload"])?;
        let mut expected = Vec::new();
        for check in ["server-udp", "server-tcp"] {
            expected.extend(other.map(|address| ("fail", check, at(3, address))));
        }
        told(cluster, &right, 1, &expected)?;
        cluster.nodes[2].edit_config("ns-ttl = \"50s\"\n", "")?;
        cluster.nodes[2].cli_ok(&["reload"])?;

        cluster.nodes[1].die()?;
        let mut expected = Vec::new();
        for check in ["server-udp", "server-tcp"] {
            expected.extend(dead.map(|address| ("fail", check, at(2, address))));
        }
        let start = Instant::now();
        told(cluster, &right, 1, &expected)?;
        assert!(start.elapsed() < VERIFIED_WITHIN, "{:?}", start.elapsed());
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_single_server_is_a_warning_and_a_wrong_file_is_wrong_usage() {
    scene(&Plan::quick(1), |cluster| {
        cluster.delegate()?;
        cluster.resolve()?;
        let findings = Findings::of(&cluster.verify(&["--json"])?)?;
        assert_eq!((findings.code, findings.bad()), (3, vec![("warn", "servers", format!("{ZONE}."))]));

        let output = cluster.verify(&["--parent", "example.org"])?;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        cluster.nodes[0].edit_config("[zone]", "[zonee]")?;
        let output = cluster.verify(&[])?;
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]), "{output:?}");
        Ok(())
    });
}

/// Gives the parent zone that delegation; `verify` has to end with that code, and to report exactly these faults.
fn told(cluster: &mut Cluster, delegation: &str, code: i32, expected: &[(&str, &str, String)]) -> Result<()> {
    cluster.parent.as_mut().context("there is no parent zone")?.change(delegation)?;
    // The resolver may still have the previous delegation in its cache, which is no fault of this delegation.
    let resolver = cluster.resolver.take();
    resolver.context("there is no resolver")?.end();
    cluster.resolve()?;
    let output = cluster.verify(&["--json", "--parent-ns", &parent::ADDRESSES[0].to_string()])?;
    let findings = Findings::of(&output)?;
    let bad: Vec<_> = findings
        .bad()
        .into_iter()
        .filter(|(_, check, _)| !(delegation.is_empty() && *check == "resolver"))
        .collect();
    ensure!(bad == expected, "{expected:?} expected: {}", findings.text);
    ensure!(findings.code == code, "the exit code is {}, not {code}: {}", findings.code, findings.text);
    let remedies = |finding: &Value| (finding["verdict"] == "ok") == finding["remedy"].is_null();
    ensure!(findings.all.iter().all(remedies), "what is amiss has a remedy: {}", findings.text);
    Ok(())
}

struct Findings {
    code: i32,
    all: Vec<Value>,
    text: String,
}

impl Findings {
    fn of(output: &Output) -> Result<Self> {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let json: Value = serde_json::from_str(&text).with_context(|| format!("no JSON: {text}{stderr}"))?;
        ensure!(json["zone"] == format!("{ZONE}."), "{text}");
        let all = json["findings"].as_array().context("no findings")?.clone();
        Ok(Findings { code: output.status.code().context("killed")?, all, text })
    }

    fn ok(&self, check: &str) -> usize {
        self.all.iter().filter(|finding| finding["verdict"] == "ok" && finding["check"] == check).count()
    }

    /// Verdict, check and subject of each fault.
    fn bad(&self) -> Vec<(&str, &str, String)> {
        let field = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        let bad = self.all.iter().filter(|finding| finding["verdict"] != "ok");
        bad.map(|finding| {
            let word = |name: &str| finding[name].as_str().unwrap_or_default();
            (word("verdict"), word("check"), field(finding, "subject"))
        })
        .collect()
    }
}
