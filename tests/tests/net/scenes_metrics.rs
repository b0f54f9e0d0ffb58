//! Scenes: a daemon's HTTP listener during faults.
use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dns_xdp_tests::bed::browser;
use dns_xdp_tests::bed::cluster::{scene, stage};
use dns_xdp_tests::bed::fetch::{ADDRESS, LISTEN, fetch, metric};
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::process;
use dns_xdp_tests::bed::views::SOON;
use dns_xdp_tests::bed::wait;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../dns-xdp/dist/prometheus-alerts.yml");

fn watched(nodes: u8) -> Plan {
    Plan::quick(nodes).line("metrics", LISTEN)
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_death_is_seen_in_the_metrics_and_on_the_page_and_so_is_a_removal() {
    scene(&watched(3), |cluster| {
        let down = "dns_xdp_transitions_total{node=\"node2\",health=\"down\"}";
        let failed = "dns_xdp_probes_total{node=\"node2\",kind=\"tcp\",result=\"failure\"}";
        let answered = "dns_xdp_queries_total{path=\"xdp\",outcome=\"answered\",rcode=\"NOERROR\"}";
        let refused = "dns_xdp_queries_total{path=\"responder\",outcome=\"answered\",rcode=\"REFUSED\"}";
        let node = &cluster.nodes[0];
        for (name, value) in [("dns_xdp_node_up{node=\"node2\"}", 1.0), (down, 0.0), (failed, 0.0)] {
            ensure!(metric(node, name)? == value, "{name} is {}", metric(node, name)?);
        }
        let before = [metric(node, answered)?, metric(node, refused)?];
        let names = [
            (format!("node1.{ZONE}."), ResponseCode::NoError),
            ("example.net.".to_owned(), ResponseCode::Refused),
        ];
        for (name, code) in names {
            let response = cluster.ask(node.ipv4(), &name, RecordType::A)?;
            ensure!(response.metadata.response_code == code, "{response}");
        }
        wait::until("the queries are counted", SOON, || {
            let now = [metric(node, answered)?, metric(node, refused)?];
            ensure!(now == before.map(|count| count + 1.0), "{before:?} {now:?}");
            Ok(())
        })?;

        cluster.nodes[1].die()?;
        let node = &cluster.nodes[0];
        wait::until("the death is counted", SOON, || {
            ensure!(metric(node, "dns_xdp_node_up{node=\"node2\"}")? == 0.0);
            ensure!(metric(node, "dns_xdp_node_health{node=\"node2\",health=\"down\"}")? == 1.0);
            ensure!(metric(node, down)? == 1.0);
            ensure!(metric(node, failed)? >= 3.0);
            ensure!(metric(node, "dns_xdp_failover_seconds_count")? == 1.0);
            Ok(())
        })?;
        let [whole, publishing] =
            ["", "publish_"].map(|part| metric(node, &format!("dns_xdp_failover_{part}seconds_sum")));
        let (whole, publishing) = (whole?, publishing?);
        ensure!(0.0 < publishing && publishing < whole, "{publishing} of {whole}");
        ensure!(whole < node.promise()?.as_secs_f64() + 1.0, "{whole}");
        let page = fetch(node, "/")?;
        ensure!(page.code == 200 && page.body.contains("▲ down: node2"), "{}", page.body);
        ensure!(
            page.body.contains("+failover") && page.body.contains("▲ node1 · demo.example.com."),
            "{}",
            page.body
        );
        ensure!(fetch(node, "/readyz")?.code == 200);

        node.cli_ok(&["node", "remove", "node2"])?;
        wait::until("node2 is gone from the metrics", SOON, || {
            let text = fetch(node, "/metrics")?.body;
            ensure!(!text.contains("\"node2\""), "{text}");
            Ok(())
        })?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_server_lives_before_it_is_ready_and_is_ready_when_it_answers() {
    let slow = watched(2).line("node2", "health = { timeout = \"3s\" }");
    stage(&slow, |cluster| {
        cluster.nodes[1].pull_cable()?;
        let node = &mut cluster.nodes[0];
        node.start_database()?;
        node.spawn(&[])?;
        wait::until("it listens", Duration::from_secs(2), || fetch(node, "/healthz"))?;
        let (health, ready) = (fetch(node, "/healthz")?, fetch(node, "/readyz")?);
        ensure!(health.code == 200, "{health:?}");
        ensure!(ready.code == 503 && ready.body.contains("first round of probes"), "{ready:?}");
        ensure!(fetch(node, "/")?.body.contains("nothing is published yet"));
        wait::until("it is ready", SOON, || {
            let ready = fetch(node, "/readyz")?;
            ensure!(ready.code == 200, "{ready:?}");
            Ok(())
        })?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_frozen_server_is_ready_and_says_that_it_is_frozen() {
    scene(&watched(3), |cluster| {
        let (node, failovers) = (&cluster.nodes[0], "dns_xdp_failover_seconds_count");
        cluster.nodes[2].pull_cable()?;
        wait::until("node3 is replaced", SOON, || {
            ensure!(metric(node, failovers)? == 1.0);
            Ok(())
        })?;
        cluster.nodes[1].pull_cable()?;
        wait::until("it is frozen, and node2 down", SOON, || {
            ensure!(metric(node, "dns_xdp_frozen")? == 1.0);
            ensure!(metric(node, "dns_xdp_transitions_total{node=\"node2\",health=\"down\"}")? == 1.0);
            Ok(())
        })?;
        let ready = fetch(node, "/readyz")?;
        ensure!(ready.code == 200 && ready.body.contains("but frozen: "), "{ready:?}");
        ensure!(fetch(node, "/")?.body.contains("✗ frozen"));
        ensure!(metric(node, failovers)? == 1.0, "node2 is answered as before");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_file_that_cannot_be_read_to_its_end_delays_no_other_command() {
    scene(&watched(2), |cluster| {
        let node = &cluster.nodes[0];
        let (beat, text) = ("dns_xdp_heartbeat_timestamp_seconds", node.config_text()?);
        // Reading a pipe without a writer never ends.
        fs::remove_file(&node.config)?;
        nix::unistd::mkfifo(&node.config, Mode::S_IRWXU)?;
        node.signal(Signal::SIGHUP)?;
        cluster.nodes[1].kill_database()?;
        let node = &cluster.nodes[0];
        wait::until("a death is found out all the same", SOON, || {
            let page = fetch(node, "/")?;
            ensure!(page.body.contains("down"), "{page:?}");
            Ok(())
        })?;
        let first = metric(node, beat)?;
        wait::until("the heart beats", SOON, || {
            ensure!(fetch(node, "/healthz")?.code == 200 && fetch(node, "/readyz")?.code == 200);
            ensure!(metric(node, beat)? > first + 1.0);
            Ok(())
        })?;
        ensure!(metric(node, "dns_xdp_lease_left_seconds")? > 26.0, "the lease is renewed meanwhile");

        fs::File::options().write(true).open(&node.config)?.write_all(text.as_bytes())?;
        fs::remove_file(&node.config)?;
        fs::write(&node.config, text)?;
        wait::until("the file is read", SOON, || {
            ensure!(metric(node, "dns_xdp_reloads_total{result=\"ok\"}")? >= 1.0);
            Ok(())
        })?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_reload_that_is_refused_is_counted() {
    scene(&watched(1), |cluster| {
        let node = &cluster.nodes[0];
        node.cli_ok(&["reload"])?;
        node.edit_config("[zone]", "[zone]\nttk = \"5s\"")?;
        ensure!(!node.cli(&["reload"])?.status.success());
        for (result, count) in [("ok", 1.0), ("refused", 1.0)] {
            let name = format!("dns_xdp_reloads_total{{result=\"{result}\"}}");
            ensure!(metric(node, &name)? == count, "{result}: {}", metric(node, &name)?);
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root, XDP and Chromium: cargo xtask test net"]
fn a_browser_shows_the_page_refreshes_it_and_runs_no_foreign_script() {
    scene(&watched(3), |cluster| {
        let node = &cluster.nodes[0];
        let hostile = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">";
        node.cli_ok(&["node", "down", "node3", "--reason", hostile])?;
        let html = browse(node, &["--dump-dom", "--virtual-time-budget=10000"])?;
        ensure!(html.contains("&lt;script&gt;document.title='taken'"), "{html}");
        ensure!(!html.contains("<img") && !html.contains("<title>taken"), "{html}");
        // The script has replaced the initial page, and the policy allows the styles.
        ensure!(html.contains("data-refreshed="), "{html}");
        let directory = node.config.parent().context("the run has a directory")?;
        for (name, more) in [
            ("light", &["--window-size=1280,1000"][..]),
            ("dark", &["--window-size=1280,1000", "--blink-settings=preferredColorScheme=0"]),
            ("phone", &["--window-size=390,1400"]),
        ] {
            let picture = directory.join(format!("{name}.png"));
            let screenshot = format!("--screenshot={}", picture.display());
            browse(node, &[&[&*screenshot], more].concat())?;
            let length = fs::metadata(&picture).with_context(|| format!("no picture {name}"))?.len();
            ensure!(length > 20_000, "{name}: a picture of {length} octets shows next to nothing");
        }
        Ok(())
    });
}

/// Opens the status page.
fn browse(node: &Node, arguments: &[&str]) -> Result<String> {
    browser::browse(node, &format!("http://{ADDRESS}/"), arguments)
}

#[test]
#[ignore = "needs promtool: cargo xtask test net"]
fn prometheus_takes_the_alerts_and_they_fire_when_they_should() {
    let directory = tempfile::tempdir().unwrap();
    let promtool = |arguments: &[&str]| {
        process::succeed(Command::new("promtool").args(arguments), "")
            .unwrap_or_else(|error| panic!("Debian has promtool in its package prometheus: {error:#}"))
    };
    promtool(&["check", "rules", ALERTS]);
    let tests = directory.path().join("tests.yml");
    fs::write(&tests, FIRING.replace("SHIPPED", ALERTS)).unwrap();
    promtool(&["test", "rules", &tests.display().to_string()]);
}

/// Node2 dies on one server of two; the other hangs, has another configuration and answers in userspace.
const FIRING: &str = r#"
rule_files: ["SHIPPED"]
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
      - {series: 'dns_xdp_node_up{job="dns-xdp",instance="a",node="node2"}', values: '1 1 0x100'}
      - {series: 'dns_xdp_node_up{job="dns-xdp",instance="b",node="node2"}', values: '1x102'}
      - {series: 'dns_xdp_node_admin{job="dns-xdp",instance="a",node="node2",admin="auto"}', values: '1x102'}
      - {series: 'dns_xdp_node_admin{job="dns-xdp",instance="b",node="node2",admin="auto"}', values: '1x102'}
      - {series: 'dns_xdp_heartbeat_timestamp_seconds{job="dns-xdp",instance="a"}', values: '0+15x102'}
      - {series: 'dns_xdp_heartbeat_timestamp_seconds{job="dns-xdp",instance="b"}', values: '0x102'}
      - {series: 'dns_xdp_epoch{job="dns-xdp",instance="a"}', values: '7x102'}
      - {series: 'dns_xdp_epoch{job="dns-xdp",instance="b"}', values: '8x102'}
      - {series: 'dns_xdp_lease_left_seconds{job="dns-xdp",instance="b"}', values: '30-15x102'}
      - {series: 'dns_xdp_reloads_total{job="dns-xdp",instance="b",result="refused"}', values: '0 1x101'}
      - {series: 'dns_xdp_queries_total{job="dns-xdp",instance="a",path="xdp"}', values: '0+1500x102'}
      - {series: 'dns_xdp_queries_total{job="dns-xdp",instance="a",path="responder"}', values: '0+15x102'}
      - {series: 'dns_xdp_queries_total{job="dns-xdp",instance="b",path="xdp"}', values: '0x102'}
      - {series: 'dns_xdp_queries_total{job="dns-xdp",instance="b",path="responder"}', values: '0+1500x102'}
    promql_expr_test:
      - expr: count by (alertname, instance) (ALERTS{alertstate="firing"})
        eval_time: 24m
        exp_samples:
          - {labels: '{alertname="DnsXdpNodeDown",instance="a"}', value: 1}
          - {labels: '{alertname="DnsXdpServersDisagree"}', value: 1}
          - {labels: '{alertname="DnsXdpHeartbeatStale",instance="b"}', value: 1}
          - {labels: '{alertname="DnsXdpEpochsDiffer"}', value: 1}
          - {labels: '{alertname="DnsXdpLeaseEnding",instance="b"}', value: 1}
          - {labels: '{alertname="DnsXdpMostlyUserspace",instance="b"}', value: 1}
"#;
