//! What is told on standard error: to people only what they must know, to programs (`--json`) everything.

use std::io::{self, Write};

use serde_json::{Value, json};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Events {
    json: bool,
}

impl Events {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// For programs only.
    pub(crate) fn note(self, event: &str, fields: Value) {
        if self.json {
            line(&object(event, fields).to_string());
        }
    }

    /// For both.
    pub(crate) fn tell(self, event: &str, text: &str, fields: Value) {
        if self.json {
            let mut object = object(event, fields);
            object["text"] = text.into();
            line(&object.to_string());
        } else {
            line(&format!("shm-restore: {text}"));
        }
    }
}

fn object(event: &str, fields: Value) -> Value {
    let mut object = json!({ "event": event });
    if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
        object.extend(fields);
    }
    object
}

/// By one call, so that lines of several processes do not mix. A standard error that is gone is no reason to end.
fn line(text: &str) {
    let _gone = io::stderr()
        .lock()
        .write_all(format!("{text}\n").as_bytes());
}
