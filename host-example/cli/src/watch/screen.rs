//! How the threads are drawn.

use super::super::report;
use super::model::{Kind, Message, Model, Order};
use indicatif::HumanCount;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Table};
use thread_budget_host::{Severity, Threshold};
use thread_budget_serve::admin::Thread;

/// The longest name that is shown, in characters.
const MAX_NAME: usize = 64;

/// How many lines the feed has, its title among them.
const FEED: u16 = 9;

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);

pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model) {
    let [head, threads, feed, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(3),
        Constraint::Length(FEED.min(frame.area().height / 3)),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, model);
    draw_threads(frame, threads, model);
    draw_feed(frame, feed, model);
    let order = match model.order {
        Order::MostUsed => "most used",
        Order::NearestLimit => "nearest its limit",
        Order::Id => "id",
    };
    frame.render_widget(Line::styled(format!(" ↑↓ move   s order: {order}   q leave"), FAINT), keys);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let totals = &model.totals;
    let status = match &model.status {
        None => Span::styled("live", colour(model, Color::Green)),
        Some(reason) => {
            Span::styled(report::shown(reason, usize::MAX), colour(model, Color::Red).patch(BOLD))
        }
    };
    let first = Line::from(vec![
        Span::styled(" thread-budget ", BOLD),
        Span::styled(format!("{}  ", report::shown(&model.url, usize::MAX)), FAINT),
        status,
    ]);
    let second = format!(
        " {}, {} exhausted   {} prompt and {} completion tokens   {} not yet told   {} refused",
        counted(totals.threads, "thread"),
        HumanCount(totals.exhausted_threads),
        HumanCount(totals.prompt_tokens),
        HumanCount(totals.completion_tokens),
        counted(totals.pending_warnings, "warning"),
        HumanCount(model.refused),
    );
    frame.render_widget(Paragraph::new(vec![first, second.into()]), area);
}

/// So many of something whose plural ends in s.
fn counted(count: u64, name: &str) -> String {
    format!("{} {name}{}", HumanCount(count), if count == 1 { "" } else { "s" })
}

fn draw_threads(frame: &mut Frame<'_>, area: Rect, model: &mut Model) {
    let block = Block::new().borders(Borders::TOP).border_style(FAINT);
    let inside = block.inner(area);
    model.arrange(inside.height.into());
    let last = (model.first + model.shown).min(model.lines.len());
    let title = match model.lines.len() {
        0 => " no threads yet ".to_owned(),
        1 => " 1 thread ".to_owned(),
        count => format!(" threads {} to {last} of {} ", model.first + 1, HumanCount(count as u64)),
    };
    frame.render_widget(block.title(Span::styled(title, BOLD)), area);
    let width = (inside.width / 4).clamp(8, 50);
    let shown: Vec<_> = model.lines[model.first..last]
        .iter()
        .filter_map(|(thread_id, depth)| Some((model.threads.get(thread_id)?, *depth)))
        .collect();
    let figures: Vec<[String; 4]> = shown.iter().map(|(thread, _)| figures(thread)).collect();
    let widest = |column: usize| {
        let widths = figures.iter().map(|figures| figures[column].chars().count());
        Constraint::Length(widths.max().unwrap_or_default() as u16)
    };
    let selected = model.selected_line();
    let rows = shown.iter().zip(&figures).enumerate().map(|(at, ((thread, depth), figures))| {
        let indent = 2 * depth;
        let style = state(thread, &model.thresholds).map_or_else(Style::new, |kind| style(model, kind));
        let name = format!(" {:indent$}{}", "", report::shown(&thread.thread_id, MAX_NAME));
        let gauge = Line::styled(gauge(thread, &model.thresholds, width), style);
        let figures = figures.iter().map(|figure| Line::from(figure.as_str()).alignment(Alignment::Right));
        let row = Row::new([name.into(), gauge].into_iter().chain(figures));
        if selected == Some(model.first + at) { row.style(Modifier::REVERSED) } else { row }
    });
    let widths =
        [Constraint::Fill(1), Constraint::Length(width + 1), widest(0), widest(1), widest(2), widest(3)];
    frame.render_widget(Table::new(rows, widths), inside);
}

/// Percent used, tokens used, the limit, and tokens held if there are some.
fn figures(thread: &Thread) -> [String; 4] {
    let held = match thread.held_tokens {
        0 => String::new(),
        held => format!("{} held", HumanCount(held)),
    };
    [
        format!("{:.0} %", thread.percent_used),
        HumanCount(thread.total_tokens).to_string(),
        format!("of {}", HumanCount(thread.max_tokens)),
        held,
    ]
}

fn draw_feed(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let block = Block::new()
        .borders(Borders::TOP)
        .border_style(FAINT)
        .title(Span::styled(" warnings and refusals ", BOLD));
    let lines: Vec<_> = model
        .feed
        .iter()
        .take(area.height.into())
        .map(|Message { kind, thread_id, text }| {
            Line::from(vec![
                Span::styled(format!(" {:<9}", name(*kind)), style(model, *kind)),
                Span::styled(format!("{}  ", report::shown(thread_id, MAX_NAME)), BOLD),
                Span::raw(report::shown(text, usize::MAX)),
            ])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// The limit as a bar of `width`: used, then held, with the thresholds marked, and an arrow when it goes on.
fn gauge(thread: &Thread, thresholds: &[Threshold], width: u16) -> String {
    let cells = u64::from(width);
    let cell_of = |percent: f64| (percent / 100.0 * f64::from(width)) as u64;
    let used = cell_of(thread.percent_used);
    let held = match thread.max_tokens {
        0 => 0.0,
        max => thread.held_tokens as f64 / max as f64 * 100.0,
    };
    let reached = cell_of(thread.percent_used + held);
    let bar = (0..cells).map(|cell| {
        let is_marked = thresholds.iter().any(|mark| cell_of(f64::from(mark.percent)).min(cells - 1) == cell);
        match (cell < used, cell < reached, is_marked) {
            (true, _, false) => '█',
            (true, _, true) => '▓',
            (false, true, _) => '░',
            (false, false, true) => '┊',
            (false, false, false) => '·',
        }
    });
    bar.chain([if thread.percent_used > 100.0 { '▶' } else { ' ' }]).collect()
}

/// How far a thread is, by the thresholds; refused is at its limit.
fn state(thread: &Thread, thresholds: &[Threshold]) -> Option<Kind> {
    if thread.total_tokens >= thread.max_tokens {
        return Some(Kind::Refused);
    }
    let reached = thresholds.iter().rev().find(|mark| thread.percent_used >= f64::from(mark.percent));
    reached.map(|mark| Kind::Crossed(mark.severity))
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Crossed(severity) => severity.as_str(),
        Kind::Told => "told",
        Kind::Refused => "refused",
    }
}

fn style(model: &Model, kind: Kind) -> Style {
    match kind {
        Kind::Crossed(Severity::Warning) => colour(model, Color::Cyan),
        Kind::Crossed(Severity::Critical) => colour(model, Color::Yellow),
        Kind::Crossed(Severity::Final) => colour(model, Color::Red),
        Kind::Refused => colour(model, Color::Red).patch(BOLD),
        Kind::Told => colour(model, Color::Green),
    }
}

fn colour(model: &Model, colour: Color) -> Style {
    if model.has_colour { Style::new().fg(colour) } else { Style::new() }
}

#[cfg(test)]
mod tests {
    use super::super::model::Move;
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    fn thread(id: &str, parent: Option<&str>, used: u64, max: u64, held: u64) -> serde_json::Value {
        json!({
            "event": "thread", "thread_id": id, "parent": parent, "max_tokens": max, "prompt_tokens": used,
            "completion_tokens": 0, "total_tokens": used, "remaining": max.saturating_sub(used),
            "percent_used": used as f64 / max as f64 * 100.0, "held_tokens": held, "request_count": 1,
            "triggered_thresholds": [], "pending_thresholds": []
        })
    }

    fn model() -> Model {
        let mut model = Model::new("http://127.0.0.1:8081", true);
        model.status = None;
        let warning = |percent: u32, severity: &str| json!({"percent": percent, "severity": severity});
        for event in [
            json!({
                "event": "snapshot", "threads": [], "news": [], "refused": 0, "unidentified": [],
                "thresholds": [warning(75, "warning"), warning(90, "critical"), warning(95, "final")],
                "totals": {"threads": 4, "prompt_tokens": 1_234_567, "completion_tokens": 0,
                    "exhausted_threads": 1, "pending_warnings": 2}
            }),
            thread("planner", None, 60_000, 200_000, 20_000),
            thread("coder", Some("planner"), 50_000, 60_000, 0),
            thread("bad\u{1b}[2J", None, 1_500, 1_000, 0),
            thread("idle", None, 0, 1_000, 0),
            json!({
                "event": "refused", "thread_id": "coder", "exhausted_thread_id": "coder", "used": 1,
                "max_tokens": 2, "requested": 3, "message": "a request of 3 does not fit"
            }),
        ] {
            model.take(serde_json::from_value(event).unwrap());
        }
        model
    }

    fn drawn(model: &mut Model, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        let buffer = terminal.backend().buffer();
        buffer
            .content
            .chunks(width.into())
            .map(|row| row.iter().map(|cell| cell.symbol()).collect())
            .collect()
    }

    #[test]
    fn threads_are_drawn_below_their_parents_with_what_they_use_and_hold() {
        let lines = drawn(&mut model(), 120, 20);
        let expected = [
            " thread-budget http://127.0.0.1:8081  live",
            " 4 threads, 1 exhausted   1,234,567 prompt and 0 completion tokens   2 warnings not yet told   1 refused",
            " threads 1 to 4 of 4 ─",
            " planner",
            "   coder",
            " bad\\u{1b}[2J",
            " idle",
        ];
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected), "{line}");
        }
        assert!(lines[3].contains("█████████░░░··········┊····┊┊·"), "{}", lines[3]);
        assert!(lines[3].trim_end().ends_with("30 % 60,000 of 200,000 20,000 held"), "{}", lines[3]);
        assert!(lines[5].contains("▶") && lines[5].contains("150 %"), "{}", lines[5]);
        assert!(lines.iter().any(|line| line.starts_with(" refused  coder  a request of 3 does not fit")));
        assert!(lines[19].starts_with(" ↑↓ move   s order: most used   q leave"));
    }

    #[test]
    fn the_selected_thread_stays_in_view_and_where_the_order_puts_it() {
        let mut model = model();
        for number in 0..100 {
            model.take(
                serde_json::from_value(thread(&format!("agent-{number:02}"), None, number, 1_000, 0))
                    .unwrap(),
            );
        }
        drawn(&mut model, 80, 24);
        model.go(Move::Down(usize::MAX));
        let lines = drawn(&mut model, 80, 24);
        assert!(lines[2].contains("of 104"), "{}", lines[2]);
        assert!(lines.iter().any(|line| line.starts_with(" idle")), "{lines:#?}");
        model.next_order();
        model.next_order();
        let lines = drawn(&mut model, 80, 24);
        assert!(lines.iter().any(|line| line.starts_with(" idle")), "{lines:#?}");
        model.go(Move::Up(usize::MAX));
        assert!(drawn(&mut model, 80, 24)[3].starts_with(" agent-00"));
        model.take(serde_json::from_value(json!({"event": "removed", "thread_id": "planner"})).unwrap());
        assert_eq!(model.threads.len(), 102);
    }

    #[test]
    fn one_is_no_plural() {
        let counts = [0, 1, 2, 1_000].map(|count| counted(count, "thread"));
        assert_eq!(counts, ["0 threads", "1 thread", "2 threads", "1,000 threads"]);
    }

    #[test]
    fn nothing_is_too_small_and_colours_can_be_off() {
        let mut model = model();
        for (width, height) in [(1, 1), (5, 3), (20, 6), (300, 80)] {
            drawn(&mut model, width, height);
        }
        model.has_colour = false;
        let mut terminal = Terminal::new(TestBackend::new(100, 20)).unwrap();
        terminal.draw(|frame| draw(frame, &mut model)).unwrap();
        assert!(terminal.backend().buffer().content.iter().all(|cell| cell.fg == Color::Reset));
    }
}
