//! Draws the screen of `top` from the model and the time.
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Sparkline};

use super::super::status::{colour_of, served_as};
use super::super::words::{ago, compact, cut, harmless, number, percent};
use super::model::{By, Model, OutcomeRate, Snapshot};
use crate::control::api::NodeStatus;
use crate::event::Event;

/// The smallest useful size, in columns and lines.
const LEAST: (u16, u16) = (60, 16);
/// From this height on, the sparkline is taller.
const TALL: u16 = 40;

/// Draws everything, and bounds the model's scrolling.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model, now: Timestamp) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let (width, height) = LEAST;
        let text =
            format!("top takes {width} columns and {height} lines: make the terminal larger, or q quits");
        frame.render_widget(Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true }), area);
        return;
    }
    let spark = if area.height < TALL { 5 } else { 10 };
    let [head, graph, upper, lower, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(spark),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    let halves =
        |area| Layout::horizontal([Constraint::Percentage(45), Constraint::Percentage(55)]).areas(area);
    let [outcomes, nodes] = halves(upper);
    let [names, events] = halves(lower);
    frame.render_widget(Paragraph::new(header(model, now, head.width.into())), head);
    draw_graph(frame, graph, model);
    draw_outcomes(frame, outcomes, model);
    draw_nodes(frame, nodes, model, now);
    draw_names(frame, names, model);
    draw_events(frame, events, model);
    frame.render_widget(footer(model), foot);
}

/// Returns the header: the daemon's identity and its first alarm.
fn header(model: &Model, now: Timestamp, width: usize) -> Vec<Line<'static>> {
    let time = now.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string();
    let mut who = "dns-xdp top".to_owned();
    if let Some(Snapshot { status, .. }) = &model.latest {
        let up = humantime::format_duration(std::time::Duration::from_secs(status.uptime_seconds));
        who += &format!("  {}  epoch {}  up {up}", status.zone, status.epoch);
        for interface in &status.interfaces {
            who += &format!("  {} {}", interface.name, interface.mode);
        }
    }
    let room = width.saturating_sub(time.len() + 1);
    let first = format!("{:room$} {time}", cut(&harmless(&who), room));
    vec![Line::from(first).bold(), condition(model, now, width)]
}

fn condition(model: &Model, now: Timestamp, width: usize) -> Line<'static> {
    let bad = |text: String| Line::from(cut(&harmless(&text), width)).red().bold();
    if let Some((since, why)) = &model.gone {
        let seconds = now.as_second().saturating_sub(since.as_second());
        return bad(format!("NO ANSWER for {seconds}s, waiting for the daemon: {why}"));
    }
    let Some(Snapshot { status, .. }) = &model.latest else { return Line::from("asking the daemon") };
    let mut alarms = Vec::new();
    alarms.extend(status.frozen.iter().map(|reason| format!("FROZEN: {reason}")));
    alarms.extend(status.fail_open.then(|| "FAIL OPEN: every node is down".to_owned()));
    alarms.extend(status.alarms.iter().map(|alarm| format!("ALARM: {alarm}")));
    let quorum = &status.quorum;
    let met = if quorum.ok { "met" } else { "NOT MET" };
    match &alarms[..] {
        [] => Line::from(format!(
            "quorum {met}: {} visible, {} needed; no alarm",
            quorum.visible, quorum.needed
        )),
        [only] => bad(only.clone()),
        [first, more @ ..] => bad(format!("({} alarms, see status) {first}", more.len() + 1)),
    }
}

fn draw_graph(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let rate =
        model.rate.map_or_else(|| "– answers/s".to_owned(), |rate| format!("{} answers/s", number(rate)));
    let share = model.kernel_share.map(|share| format!(", {} in the kernel", percent(share)));
    let shown = usize::from(area.width.saturating_sub(2)).min(model.history.len());
    let newest: Vec<u64> = model.history.iter().skip(model.history.len() - shown).copied().collect();
    let most = newest.iter().copied().max().unwrap_or(0);
    let most = Line::from(format!(" most {}/s ", number(most as f64))).alignment(Alignment::Right);
    let block = block(&format!("{rate}{}", share.unwrap_or_default())).title(most);
    let room = block.inner(area);
    frame.render_widget(block, area);
    // The newest second is always at the right edge.
    let [_, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(shown as u16)]).areas(room);
    frame.render_widget(Sparkline::default().data(&newest).fg(Color::Green), right);
}

fn draw_outcomes(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let block = block(&format!("Outcomes by {}", model.sort.text()));
    let room = block.inner(area);
    let name_width = usize::from(room.width).saturating_sub(4 + 9 + 8);
    let line = |OutcomeRate { text, by, rate, total }: &OutcomeRate| {
        let (mark, colour) = match by {
            By::Kernel => ("xdp", Color::Green),
            By::Unanswered => ("   ", Color::Reset),
            By::Responder => ("up ", Color::Yellow),
        };
        let name = cut(&harmless(text), name_width);
        let rate = rate.map_or_else(|| "–".to_owned(), |rate| format!("{}/s", compact(rate)));
        let total = compact(*total as f64);
        Line::from(vec![
            Span::from(mark).fg(colour),
            format!(" {name:name_width$}{rate:>9}{total:>8}").into(),
        ])
    };
    let lines: Vec<Line<'static>> = model.outcomes.iter().take(room.height.into()).map(line).collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn draw_nodes(frame: &mut Frame<'_>, area: Rect, model: &mut Model, now: Timestamp) {
    let nodes = model.latest.as_ref().map(|latest| &latest.status.nodes[..]).unwrap_or_default();
    let height = usize::from(area.height.saturating_sub(2));
    model.scrolled = model.scrolled.min(nodes.len().saturating_sub(height));
    let up = nodes.iter().filter(|node| node.effective == "up").count();
    let below = nodes.len().saturating_sub(model.scrolled + height);
    let more = if below > 0 { format!(", {below} below") } else { String::new() };
    let block = block(&format!("Nodes: {up} of {} up{more}", nodes.len()));
    let width = usize::from(area.width.saturating_sub(2));
    let shown = || nodes.iter().skip(model.scrolled).take(height);
    let widest = |word: &dyn Fn(&NodeStatus) -> String, most: usize| {
        shown().map(|node| word(node).chars().count()).max().unwrap_or(0).min(most)
    };
    let served = |node: &NodeStatus| served_as(node, nodes);
    let widths = (widest(&|node| node.name.clone(), 12), widest(&state, 15), widest(&served, 10));
    let lines = shown().map(|node| {
        let name = format!("{:1$} ", cut(&harmless(&node.name), widths.0), widths.0);
        let state = format!("{:1$} ", cut(&harmless(&state(node)), widths.1), widths.1);
        let reason = node.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let rest =
            format!("as {:2$} {}{reason}", cut(&served(node), widths.2), ago(node.since, now), widths.2);
        let room = width.saturating_sub(name.chars().count() + state.chars().count());
        let state = Span::from(state).fg(colour_of(&node.effective));
        Line::from(vec![name.bold(), state, cut(&harmless(&rest), room).into()])
    });
    let lines: Vec<Line<'static>> = lines.collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// Returns a node's health, and its effective state if that differs.
fn state(node: &NodeStatus) -> String {
    let NodeStatus { health, effective, .. } = node;
    if health == effective { health.clone() } else { format!("{health}/{effective}") }
}

fn draw_names(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let names = model.latest.as_ref().and_then(|latest| latest.names.as_ref());
    let Some(names) = names else {
        let text = "not sampled: press n to sample";
        let hint = Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true });
        frame.render_widget(hint.block(block("Most asked")), area);
        return;
    };
    let title = match (names.sampled, names.one_of) {
        (false, _) => "Most asked: no program is attached".to_owned(),
        (true, one_of) => format!("Most asked, of 1 in {}", number(one_of as f64)),
    };
    let block = block(&title);
    let room = block.inner(area);
    let width = usize::from(room.width).saturating_sub(8);
    let lines = names.names.iter().take(room.height.into()).map(|asked| {
        Line::from(format!("{:width$}{:>8}", cut(&harmless(&asked.name), width), percent(asked.share)))
    });
    let lines: Vec<Line<'static>> = lines.collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let block = block("Events, newest first");
    let room = block.inner(area);
    let events = model.latest.as_ref().map(|latest| &latest.events[..]).unwrap_or_default();
    let line = |event: &Event| {
        let time = event.at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string();
        let text = cut(&harmless(&format!("{time} {}", event.what)), room.width.into());
        if event.grave { Line::from(text).red() } else { Line::from(text) }
    };
    let lines: Vec<Line<'static>> = events.iter().rev().take(room.height.into()).map(line).collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn footer(model: &Model) -> Line<'static> {
    let key =
        |key: &'static str, does: &'static str| [Span::from(key).bold(), Span::from(format!(" {does}  "))];
    let pause = if model.paused { "go on" } else { "pause" };
    let names = if model.wants_names() { "names off" } else { "names on" };
    let keys = [key(" q", "quit"), key("p", pause), key("s", "sort"), key("n", names), key("↑↓", "nodes")];
    let mut spans: Vec<Span<'static>> = keys.into_iter().flatten().collect();
    if model.paused {
        spans.push("PAUSED".yellow().bold());
    }
    Line::from(spans)
}

fn block(title: &str) -> Block<'static> {
    Block::bordered().title(format!(" {title} "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyCode;

    use super::super::model::tests::snapshot;
    use super::*;
    use crate::control::api::{AskedName, Names};
    use crate::event::{Kind, Occurrence};

    fn model() -> Model {
        let mut model = Model::new(true);
        model.take(snapshot(0, 1_000_000, 100));
        let mut latest = snapshot(1, 2_234_567, 200);
        let what = Occurrence::new(Kind::Down).about("node2").because("refused");
        latest.events = vec![Event { seq: 1, at: Timestamp::UNIX_EPOCH, what, grave: true }];
        let name = AskedName { name: "node1.demo.example.com.".to_owned(), share: 0.625 };
        latest.names = Some(Names { sampled: true, one_of: 8192, samples: 1240, names: vec![name] });
        model.take(latest);
        model
    }

    fn shown(model: &mut Model, (width, height): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let now = "2024-05-01T10:03:00Z".parse().unwrap();
        terminal.draw(|frame| draw(frame, model, now)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn everything_is_on_a_small_screen_and_on_a_large_one() {
        for size in [(80, 24), (120, 40), (200, 60)] {
            let screen = shown(&mut model(), size);
            for what in [
                "demo.example.com.",
                "eth0 generic",
                "(2 alarms, see status) FROZEN: 1 of 2 visible",
                "1,234,667 answers/s, 99.9 % in the kernel",
                "xdp answered",
                "1.23M/s   2.23M",
                "up  REFUSED",
                "Nodes: 0 of 2 up",
                "node2 down     as node1  3m ago: refused",
                "node1 up/drain as itself 20s ago",
                "Most asked, of 1 in 8,192",
                "node1.demo.example.com.",
                "62.5 %",
                "+down node2: refused",
                "q quit",
                "p pause",
                "s sort",
            ] {
                assert!(screen.contains(what), "{what} is missing at {size:?}:\n{screen}");
            }
        }
    }

    #[test]
    fn a_daemon_that_is_gone_is_said_to_be() {
        let mut model = model();
        let since = "2024-05-01T10:02:55Z".parse().unwrap();
        model.nobody_answers(since, "no dns-xdp answers on /run/s");
        let screen = shown(&mut model, (80, 24));
        assert!(screen.contains("NO ANSWER for 5s, waiting for the daemon: no dns-xdp answers"), "{screen}");
        assert!(screen.contains("– answers/s") && screen.contains("node2"), "{screen}");
        let screen = shown(&mut Model::new(true), (80, 24));
        assert!(screen.contains("asking the daemon"), "{screen}");
    }

    #[test]
    fn a_pause_is_seen_and_so_is_that_names_are_not_sampled() {
        let mut model = model();
        model.key(KeyCode::Char('p'));
        let screen = shown(&mut model, (80, 24));
        assert!(screen.contains("PAUSED") && screen.contains("p go on"), "{screen}");
        let mut model = Model::new(false);
        model.take(snapshot(0, 1, 1));
        let screen = shown(&mut model, (80, 24));
        assert!(screen.contains("not sampled: press n"), "{screen}");
    }

    #[test]
    fn many_nodes_can_be_scrolled_through_and_no_further() {
        let mut model = model();
        let latest = model.latest.as_mut().unwrap();
        let node = latest.status.nodes[0].clone();
        latest.status.nodes =
            (1..=50).map(|nth| NodeStatus { name: format!("n{nth}"), ..node.clone() }).collect();
        assert!(shown(&mut model, (80, 24)).contains("below"));
        (0..1_000).for_each(|_| model.key(KeyCode::Down));
        let screen = shown(&mut model, (80, 24));
        assert!(screen.contains("n50 ") && !screen.contains("below"), "{screen}");
    }

    #[test]
    fn what_strangers_wrote_moves_nothing_and_no_size_is_too_small() {
        let mut model = model();
        let latest = model.latest.as_mut().unwrap();
        latest.names.as_mut().unwrap().names[0].name = "\x1b[2J\u{202e}".to_owned();
        latest.status.nodes[0].reason = Some("\x1b[31m\n".to_owned());
        latest.status.alarms = vec!["\x07".to_owned()];
        for size in [(1, 1), (20, 3), (60, 16), (61, 17), (80, 24), (300, 5)] {
            let screen = shown(&mut model, size);
            assert!(!screen.chars().any(|char| char.is_control() && char != '\n'), "{size:?}");
        }
        model.nobody_answers(Timestamp::UNIX_EPOCH + Duration::from_secs(1), "\x1b");
        assert!(!shown(&mut model, (80, 24)).contains('\x1b'));
    }
}
