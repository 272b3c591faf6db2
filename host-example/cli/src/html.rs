//! The report as a page: the operators' page's style, no script, and nothing from anywhere else.

use super::outcomes::counted;
use super::report::{Sessions, Summary};
use super::threads::Shown;
use indicatif::{HumanBytes, HumanCount};
use std::fmt::Write;
use thread_budget_host::Threshold;
use thread_budget_serve::admin::PAGE_STYLE;

/// What differs from the operators' page: rows stand one below the other.
const STYLE: &str = "
.row { position: relative; left: auto; right: auto; margin-left: var(--indent); height: auto; padding: 10px 12px; cursor: auto; }
.row::before { left: calc(-1px - var(--indent)); }
.row:hover { background: none; }
.gauge { margin-left: 0; }
.gauge .used { transition: none; }
.row p { margin-top: 6px; }
main { display: grid; gap: var(--gap); }
.stats { margin-bottom: 0; }
@media (max-width: 520px) { .row-head { flex-wrap: wrap; } .name { white-space: normal; overflow-wrap: anywhere; } }
";

/// The whole page.
pub(super) fn page(name: &str, summary: &Summary, thresholds: &[Threshold]) -> String {
    let mut page = String::new();
    // Writing into a String cannot fail.
    let _ = write_page(&mut page, name, summary, thresholds);
    page
}

fn write_page(
    page: &mut String,
    name: &str,
    summary: &Summary,
    thresholds: &[Threshold],
) -> std::fmt::Result {
    let name = escape(name);
    write!(
        page,
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="content-security-policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<title>thread-budget replay of {name}</title>
<style>{PAGE_STYLE}{STYLE}</style>
</head>
<body>
<header class="masthead">
<div class="title"><h1>thread-budget</h1><p>What budgets would have done: {name}</p></div>
</header>
<main>
<dl class="stats" aria-label="All together">
"#
    )?;
    let counts = &summary.counts;
    let crossed = &summary.crossed;
    for (term, count) in [
        ("requests", counts.requests),
        ("refused", counts.refused),
        ("skipped records", counts.skipped),
        ("threads", summary.threads),
        ("at their limit", summary.exhausted_threads),
        ("tokens", summary.total_tokens),
        ("of prompts", summary.prompt_tokens),
        ("of completions", summary.completion_tokens),
        ("warnings", crossed.all()),
    ] {
        writeln!(page, "<div><dt>{term}</dt><dd>{}</dd></div>", HumanCount(count))?;
    }
    page.push_str("</dl>\n");
    write_sessions(page, summary)?;

    let marks: Vec<String> = thresholds.iter().map(|threshold| format!("{} %", threshold.percent)).collect();
    write!(
        page,
        r#"<section class="card" aria-labelledby="threads-title">
<div class="card-head"><h2 id="threads-title">Largest threads</h2>
<ul class="legend" aria-label="What a gauge shows"><li><span class="swatch used"></span>used of the limit</li>
<li><span class="swatch mark"></span>warned at {}</li></ul></div>
"#,
        if marks.is_empty() { "nothing".into() } else { marks.join(", ") },
    )?;
    for thread in &summary.top {
        write_thread(page, thread, thresholds)?;
    }
    page.push_str("</section>\n</main>\n</body>\n</html>\n");
    Ok(())
}

fn write_sessions(page: &mut String, summary: &Summary) -> std::fmt::Result {
    let Some(Sessions { number, median_tokens, p90_tokens, largest_tokens }) = summary.sessions else {
        return Ok(());
    };
    page.push_str("<section class=\"card\" aria-labelledby=\"found-title\"><div class=\"card-head\"><h2 id=\"found-title\">Sessions</h2></div>\n");
    for place in &summary.found {
        writeln!(
            page,
            "<p class=\"hint\">{}: {} in {}, {}, {}</p>",
            place.agent,
            counted(place.sessions, "session"),
            counted(place.files, "file"),
            HumanBytes(place.bytes),
            escape(&place.folder.display().to_string()),
        )?;
    }
    page.push_str("<dl class=\"figures\">\n");
    for (term, count) in [
        ("sessions", number),
        ("half use at most", median_tokens),
        ("9 of 10 use at most", p90_tokens),
        ("the largest", largest_tokens),
    ] {
        writeln!(page, "<div><dt>{term}</dt><dd>{}</dd></div>", HumanCount(count))?;
    }
    page.push_str("</dl>\n</section>\n");
    Ok(())
}

fn write_thread(page: &mut String, thread: &Shown, thresholds: &[Threshold]) -> std::fmt::Result {
    let reached = thresholds.iter().rev().find(|t| thread.percent_used >= f64::from(t.percent));
    let state = if thread.total_tokens >= thread.max_tokens {
        "exhausted"
    } else {
        reached.map_or("", |threshold| threshold.severity.as_str())
    };
    let id = escape(&thread.thread_id);
    let (used, limit) = (HumanCount(thread.total_tokens), HumanCount(thread.max_tokens));
    let (percent, width) = (thread.percent_used, thread.percent_used.clamp(0.0, 100.0));
    write!(
        page,
        r#"<article class="row" data-state="{state}" style="--depth: {}">
<div class="row-head"><span class="name">{id}</span><span class="badge" data-state="{state}">{state}</span>
<span class="numbers"><b>{percent:.1} %</b>{used} of {limit}</span></div>
<div class="gauge" role="meter" aria-label="Budget of {id}" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{width:.0}" aria-valuetext="{percent:.1} % used, {used} of {limit} tokens">
<div class="bar"><div class="used" style="width: {width:.1}%"></div></div>"#,
        thread.depth,
    )?;
    for threshold in thresholds {
        write!(page, r#"<div class="tick" style="left: {}%"></div>"#, threshold.percent)?;
    }
    page.push_str("</div>\n");
    if let Some(outcome) = &thread.outcome {
        let folder = outcome.project.as_ref().map(|folder| format!(", in {}", escape(folder)));
        writeln!(page, "<p class=\"hint\">{}{}</p>", escape(&outcome.text()), folder.unwrap_or_default())?;
    }
    page.push_str("</article>\n");
    Ok(())
}

/// Text that is nothing but text on the page, and in quotes there; what is no character is shown as its code.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            character if character.is_control() => escaped.extend(character.escape_unicode()),
            character => escaped.push(character),
        }
    }
    escaped
}
