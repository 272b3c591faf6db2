//! What the router says to an agent, found in a request that its provider saw.

use serde_json::Value;

/// How what it says begins.
const BEGINNINGS: [&str; 4] = ["Note: ", "WARNING: ", "CRITICAL: ", "Token budget: "];

fn is_note(text: &str) -> bool {
    BEGINNINGS.iter().any(|beginning| text.starts_with(beginning)) && text.contains("oken budget")
}

/// The conversation of a request: the field, and what is in it.
fn conversation(body: &Value) -> (&'static str, &Value) {
    let field = if body["input"].is_null() { "messages" } else { "input" };
    (field, &body[field])
}

/// Take the note out of a request: it, where there is one, and the conversation as it was without it.
pub(crate) fn take(body: &Value) -> (Option<String>, Value) {
    let mut conversation = conversation(body).1.clone();
    let note = match &mut conversation {
        Value::String(text) => cut(text),
        Value::Array(items) => take_of_items(items),
        _ => None,
    };
    (note, conversation)
}

fn take_of_items(items: &mut Vec<Value>) -> Option<String> {
    // An item of its own, of OpenAI's responses.
    if let Some(text) = items.last().and_then(|item| item["content"][0]["text"].as_str())
        && items.last().is_some_and(|item| item["type"] == "message")
        && is_note(text)
    {
        let note = text.to_owned();
        items.pop();
        return Some(note);
    }
    let last = items.iter_mut().rfind(|item| item["role"] == "user" || item["role"] == "tool")?;
    match &mut last["content"] {
        Value::String(text) => cut(text),
        Value::Array(parts) => {
            let note = parts.last()?["text"].as_str().filter(|text| is_note(text))?.to_owned();
            parts.pop();
            Some(note)
        }
        _ => None,
    }
}

/// Cut the note off a text.
fn cut(text: &mut String) -> Option<String> {
    let at = text.rmatch_indices("\n\n").map(|(at, _)| at).find(|&at| is_note(&text[at + 2..]))?;
    let note = text.split_off(at);
    Some(note[2..].to_owned())
}

/// Whether a provider that keeps beginnings of requests finds what the client sent: tools, instructions and
/// conversation are the same up to the note.
pub(crate) fn keeps_prefix(sent: &Value, seen: &Value) -> bool {
    let same = |field: &str| sent[field].to_string() == seen[field].to_string();
    let (field, said) = conversation(sent);
    let (_, without) = take(seen);
    ["tools", "system", "instructions"].into_iter().all(same)
        && conversation(seen).0 == field
        && (said.to_string() == without.to_string() || *said == as_text(&without))
}

/// Contents that are a single text, as a text: a block was put behind it.
fn as_text(conversation: &Value) -> Value {
    let mut conversation = conversation.clone();
    for item in conversation.as_array_mut().into_iter().flatten() {
        if let Some([part]) = item["content"].as_array().map(Vec::as_slice)
            && part["type"] == "text"
            && part.as_object().is_some_and(|fields| fields.len() == 2)
        {
            item["content"] = part["text"].clone();
        }
    }
    conversation
}
