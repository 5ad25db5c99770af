//! A record without secrets: what is looked at, live and in a replay.

use tw_model::Raw;
use tw_model::raw::{from_words, to_words};
use tw_report::redact::Redactor;

/// What the redaction made of a record.
pub struct Clean {
    /// The record anew, aligned; `None` if there was nothing to take out.
    words: Option<Vec<u64>>,
}

impl Clean {
    /// Takes the secrets out of a copy of `raw`, if there is a redactor and it finds any.
    pub fn new(redactor: Option<&Redactor>, raw: &Raw<'_>) -> Self {
        Self { words: redactor.and_then(|redactor| redactor.record(raw)).map(|bytes| to_words(&bytes)) }
    }

    /// The record to look at in the place of `raw`, of which this was made.
    pub fn instead_of<'r>(&'r self, raw: Raw<'r>) -> Raw<'r> {
        match self.words.as_deref().map(|words| Raw::parse(from_words(words))) {
            Some(Ok(clean)) => clean,
            _ => raw,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tw_model::EventKind;
    use tw_model::raw::{Body, Encoder, ExecBody, Header};

    #[test]
    fn a_secret_goes_and_a_record_without_one_stays_as_it_is() {
        let header = Header { kind: EventKind::Execve as u16, pid: 1, tid: 1, ..Header::default() };
        let exec = |args: &[u8]| {
            let mut out = Encoder::new(&header, size_of::<ExecBody>());
            let body = ExecBody { args: out.text(args), ..ExecBody::default() };
            to_words(&out.finish(&body))
        };
        let redactor = Redactor::new([7; 32]);
        let seen = |redactor, words: &[u64]| {
            let raw = Raw::parse(from_words(words)).unwrap();
            let clean = Clean::new(redactor, &raw);
            let seen = clean.instead_of(raw);
            let Body::Exec(body) = seen.body else { panic!("another record") };
            String::from_utf8(seen.text(body.args).to_vec()).unwrap()
        };
        let (secret, harmless) = (exec(b"mysql\0--password=hunter22\0"), exec(b"ls\0-l\0"));
        assert!(!seen(Some(&redactor), &secret).contains("hunter22"));
        assert!(seen(None, &secret).contains("hunter22"));
        assert_eq!(seen(Some(&redactor), &harmless), "ls\0-l\0");
    }
}
