//! Tests that the shipped files for Prometheus and Grafana use only metrics and labels that `/metrics` has.
use std::collections::{BTreeMap, BTreeSet};

use super::text::tests::exposition;

const ALERTS: &str = include_str!("../../dist/prometheus-alerts.yml");
const DASHBOARD: &str = include_str!("../../dist/grafana-dashboard.json");

/// The labels that Prometheus adds to every metric, and the label of a histogram's buckets.
const ADDED: [&str; 3] = ["instance", "job", "le"];

/// Every name in the exposition, with all labels that it has in any line.
fn exposed() -> BTreeMap<String, BTreeSet<String>> {
    let mut exposed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in exposition().lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let labels = line.split_once('{').map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
        let labels = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        exposed.entry(name.to_owned()).or_default().extend(labels);
    }
    exposed
}

/// The metrics of dns-xdp in an expression, each with the labels in its braces.
fn used(expression: &str) -> Vec<(String, Vec<String>)> {
    let starts = expression.match_indices("dns_xdp_").map(|(start, _)| &expression[start..]);
    let use_of = |text: &str| {
        let end = text.find(|char: char| !char.is_ascii_alphanumeric() && char != '_').unwrap_or(text.len());
        let braces = text[end..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let labels = braces.map_or("", |(labels, _)| labels).split(',');
        let label = |label: &str| label.split(['=', '!']).next().unwrap().trim().to_owned();
        (text[..end].to_owned(), labels.map(label).filter(|label| !label.is_empty()).collect())
    };
    starts.map(use_of).collect()
}

/// The labels that an expression groups by.
fn grouped(expression: &str) -> Vec<String> {
    let groups = ["by (", "on (", "without ("].into_iter().flat_map(|word| {
        expression
            .match_indices(word)
            .map(move |(start, _)| expression[start + word.len()..].split_once(')').unwrap().0)
    });
    groups.flat_map(|group| group.split(',').map(|label| label.trim().to_owned())).collect()
}

/// The metrics and labels of an expression that the daemon does not expose.
fn unknown(expression: &str) -> Vec<String> {
    let exposed = exposed();
    let mut unknown = Vec::new();
    let mut labels_of_all = BTreeSet::from(ADDED.map(str::to_owned));
    for (name, labels) in used(expression) {
        let Some(has) = exposed.get(&name) else {
            unknown.push(name);
            continue;
        };
        labels_of_all.extend(has.iter().cloned());
        let known = |label: &String| has.contains(label) || ADDED.contains(&label.as_str());
        unknown.extend(
            labels.into_iter().filter(|label| !known(label)).map(|label| format!("{name}{{{label}}}")),
        );
    }
    unknown.extend(grouped(expression).into_iter().filter(|label| !labels_of_all.contains(label)));
    unknown
}

/// The lines of each alert, by their keys.
fn alerts() -> Vec<BTreeMap<&'static str, &'static str>> {
    let blocks = ALERTS.split("- alert: ").skip(1);
    let lines = |block: &'static str| {
        let (name, rest) = block.split_once('\n').unwrap();
        let pairs = rest.lines().filter_map(|line| line.trim().split_once(": "));
        pairs.chain([("alert", name)]).collect()
    };
    blocks.map(lines).collect()
}

#[test]
fn every_alert_asks_for_what_is_exposed_and_says_what_to_do() {
    let alerts = alerts();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for alert in alerts {
        let name = alert["alert"];
        assert_eq!(unknown(alert["expr"]), Vec::<String>::new(), "{name}");
        for key in ["severity", "summary", "what_to_do"] {
            assert!(alert.get(key).is_some_and(|text| text.len() > 3), "{name} has no {key}");
        }
        let words = alert["what_to_do"].split(' ').count();
        assert!(words >= 6, "{name} does not say what to do: {}", alert["what_to_do"]);
        let exposed = exposed();
        let mut known: BTreeSet<&str> = BTreeSet::from(ADDED);
        for (used, _) in used(alert["expr"]) {
            known.extend(exposed[&used].iter().map(String::as_str));
        }
        for text in [alert["summary"], alert["what_to_do"]] {
            for (start, word) in text.match_indices("$labels.") {
                let rest = &text[start + word.len()..];
                let label =
                    rest.split(|char: char| !char.is_ascii_alphanumeric() && char != '_').next().unwrap();
                assert!(
                    known.contains(label),
                    "{name} shows the label {label}, which its metric does not have"
                );
            }
        }
    }
}

#[test]
fn every_panel_asks_for_what_is_exposed_and_has_a_title() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 10);
    let mut places = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(
            !title.is_empty() && panel["description"].as_str().is_some_and(|text| !text.is_empty()),
            "{panel}"
        );
        assert!(places.insert(panel["gridPos"].to_string()), "{title} lies upon another");
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            assert_eq!(unknown(expression), Vec::<String>::new(), "{title}");
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            let exposed = exposed();
            let labels: Vec<&str> =
                legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap()).collect();
            for label in labels {
                let has = used(expression).iter().any(|(name, _)| exposed[name].contains(label));
                assert!(has || ADDED.contains(&label), "{title} shows the label {label}, which nothing has");
            }
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let query = variable["query"].as_str().unwrap();
        if let Some(inner) = query.strip_prefix("label_values(") {
            assert_eq!(unknown(inner), Vec::<String>::new(), "{query}");
        }
    }
}

#[test]
fn a_metric_or_label_that_is_not_exposed_is_noticed() {
    assert_eq!(unknown("rate(dns_xdp_querys_total[5m]) > 0"), ["dns_xdp_querys_total"]);
    assert_eq!(unknown("dns_xdp_node_up{nodes=\"a\"} == 0"), ["dns_xdp_node_up{nodes}"]);
    assert_eq!(unknown("sum by (qname) (dns_xdp_node_up)"), ["qname"]);
    assert_eq!(unknown("sum by (node) (dns_xdp_node_up{instance=~\"$instance\"})"), Vec::<String>::new());
}
