//! A request as a command for a shell. Credentials stay in the environment of whoever runs it.

use crate::operation::v1::Request;

/// Writes the command, without a line end.
pub fn command(base: &str, request: &Request, out: &mut Vec<u8>) {
    out.extend_from_slice(b"curl -sS -X ");
    out.extend_from_slice(request.method.as_bytes());
    out.extend_from_slice(b" -u \"$CUSTOMERIO_SITE_ID:$CUSTOMERIO_API_KEY\"");
    if let Some(body) = &request.body {
        out.extend_from_slice(b" -H 'Content-Type: application/json' --data-binary ");
        quote(body, out);
    }
    out.push(b' ');
    quote(format!("{base}{}", request.path).as_bytes(), out);
}

/// Quotes for every POSIX shell: nothing is special between single quotes but their end.
fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    for byte in text {
        match byte {
            b'\'' => out.extend_from_slice(b"'\\''"),
            byte => out.push(*byte),
        }
    }
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_command_names_no_credentials() {
        let request = Request {
            method: "PUT",
            path: "/api/v1/customers/it's".into(),
            body: Some(Bytes::from_static(br#"{"a":"it's $HOME"}"#)),
        };
        let mut out = Vec::new();
        command("https://track.customer.io", &request, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"curl -sS -X PUT -u "$CUSTOMERIO_SITE_ID:$CUSTOMERIO_API_KEY" -H 'Content-Type: application/json' --data-binary '{"a":"it'\''s $HOME"}' 'https://track.customer.io/api/v1/customers/it'\''s'"#
        );
    }

    #[test]
    fn a_shell_gives_the_text_back_as_it_was() {
        let text = "it's `id` $(id) \"$HOME\" \\ \n !x é ''";
        let mut script = b"printf %s ".to_vec();
        quote(text.as_bytes(), &mut script);
        let shell = Command::new("sh").arg("-c").arg(String::from_utf8(script).unwrap()).output();
        assert_eq!(String::from_utf8(shell.unwrap().stdout).unwrap(), text);
    }
}
