//! The body of a request that a budget applies to: the fields that the router reads.

use crate::json;
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// Why a body is no request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadRequest {
    /// It is not UTF-8.
    #[error("the body is not UTF-8: {0}")]
    Encoding(#[from] alloc::string::FromUtf8Error),
    /// It is not a JSON object.
    #[error("the body cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A field is there twice: a provider might read the other one.
    #[error("the body cannot be read: the field {0:?} is there twice")]
    Twice(&'static str),
    /// A field is not what it should be.
    #[error("the body cannot be read: {field} is {expected}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

macro_rules! known_fields {
    ($($field:ident)*) => {
        /// The fields that the router reads, each as it is written.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct Fields<'a> {
            $(pub(crate) $field: Option<&'a str>,)*
        }

        /// Where they are.
        #[derive(Debug, Default)]
        struct Places {
            $($field: Option<Range<usize>>,)*
        }

        impl Places {
            fn place(&mut self, name: &str) -> Option<(&'static str, &mut Option<Range<usize>>)> {
                match name {
                    $(stringify!($field) => Some((stringify!($field), &mut self.$field)),)*
                    _ => None,
                }
            }

            fn fields<'a>(&self, text: &'a str) -> Fields<'a> {
                Fields { $($field: self.$field.clone().map(|place| &text[place]),)* }
            }
        }

        impl<'a> Fields<'a> {
            /// A field by its name.
            pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
                match name {
                    $(stringify!($field) => self.$field,)*
                    _ => None,
                }
            }
        }
    };
}

known_fields! {
    background best_of cache_control client_metadata function_call functions input instructions
    max_completion_tokens max_output_tokens max_tokens
    messages metadata model n prompt response_format stream stream_options suffix system text thinking
    tool_choice tools
}

/// A body, read.
#[derive(Debug)]
pub(crate) struct Body {
    text: String,
    places: Places,
}

impl Body {
    /// Read it.
    pub(crate) fn read(body: Vec<u8>) -> Result<Self, BadRequest> {
        let text = String::from_utf8(body)?;
        let mut places = Places::default();
        let mut twice = None;
        json::fields(&text, &mut |name, value| {
            if let Some((name, place)) = places.place(name) {
                let start = value.as_ptr().addr() - text.as_ptr().addr();
                if place.replace(start..start + value.len()).is_some() {
                    twice = Some(name);
                }
            }
        })?;
        match twice {
            Some(name) => Err(BadRequest::Twice(name)),
            None => Ok(Self { text, places }),
        }
    }

    /// All of it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Its fields.
    pub(crate) fn fields(&self) -> Fields<'_> {
        self.places.fields(&self.text)
    }
}

impl<'a> Fields<'a> {
    /// The model asked for; empty when none is named.
    pub(crate) fn model(&self) -> Result<Cow<'a, str>, BadRequest> {
        let Some(model) = present(self.model) else { return Ok(Cow::Borrowed("")) };
        json::text(model).ok_or(BadRequest::Field { field: "model", expected: "a string" })
    }

    /// Whether the answer is to be a stream.
    pub(crate) fn is_stream(&self) -> Result<bool, BadRequest> {
        match present(self.stream) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(BadRequest::Field { field: "stream", expected: "true or false" }),
        }
    }

    /// A field of `metadata`, or of another object that the router may add to, as it is written. One that is
    /// there twice is an error, like a field of the whole.
    pub(crate) fn inner(object: Option<&'a str>, name: &'static str) -> Result<Option<&'a str>, BadRequest> {
        let mut found = None;
        let mut is_twice = false;
        if let Some(object) = object.filter(|value| json::is_object(value)) {
            json::fields(object, &mut |known, value| {
                if known == name {
                    is_twice |= found.replace(value).is_some();
                }
            })?;
        }
        if is_twice { Err(BadRequest::Twice(name)) } else { Ok(found) }
    }
}

/// A field that is there and is not null.
pub(crate) fn present(value: Option<&str>) -> Option<&str> {
    value.filter(|value| *value != "null")
}

/// A number of tokens or the like, where it is there.
pub(crate) fn number(field: &'static str, value: Option<&str>) -> Result<Option<u64>, BadRequest> {
    let Some(value) = present(value) else { return Ok(None) };
    value.parse().map(Some).map_err(|_| BadRequest::Field { field, expected: "a whole number, 0 or more" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Body, BadRequest> {
        Body::read(body.as_bytes().to_vec())
    }

    #[test]
    fn fields_are_as_they_are_written() {
        let body = read(r#" {"m\u006fdel": "m", "stream":true , "max_tokens":null, "other":1e999}"#).unwrap();
        let fields = body.fields();
        assert_eq!(fields.model().unwrap(), "m");
        assert!(fields.is_stream().unwrap());
        assert_eq!(number("max_tokens", fields.max_tokens).unwrap(), None);
        assert_eq!(number("n", Some("7")).unwrap(), Some(7));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_request() {
        for body in
            ["", "[]", "{", "\"text\"", r#"{"messages":[],"messages":[]}"#, r#"{"n":1,"\u006e":2}"#, "{} {}"]
        {
            assert!(read(body).is_err(), "{body}");
        }
        assert!(matches!(Body::read(b"{\"model\":\"\xff\"}".to_vec()), Err(BadRequest::Encoding(_))));
        for value in ["-1", "1.5", "1e9", "\"2\"", "[]", "99999999999999999999"] {
            assert!(number("n", Some(value)).is_err(), "{value}");
        }
        let fields = |stream| Fields { stream: Some(stream), ..Fields::default() };
        assert!(fields("\"true\"").is_stream().is_err());
        assert!(fields("1").is_stream().is_err());
        let twice = Fields::inner(Some(r#"{"thread_id":"a","thread_id":"b"}"#), "thread_id");
        assert!(matches!(twice, Err(BadRequest::Twice("thread_id"))));
    }
}
