//! A letter read in chunks is the letter.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::*;

fn text(text: &str) -> Segment {
    Segment::Text(Bytes::copy_from_slice(text.as_bytes()))
}

fn whole(mut chunks: Chunks<'_>) -> Vec<u8> {
    let (mut whole, mut ended) = (Vec::new(), false);
    while let Some((chunk, last)) = chunks.next_chunk() {
        assert!(!ended, "nothing follows the last chunk");
        whole.extend_from_slice(chunk);
        ended = last;
    }
    assert!(ended);
    whole
}

fn texts(letter: &Letter) -> (String, String) {
    let string = |chunks| String::from_utf8(whole(chunks)).unwrap();
    let message = string(letter.message());
    assert_eq!(message.len() as u64, letter.size());
    (message, string(letter.wire()))
}

#[test]
fn dots_at_line_beginnings_are_doubled_on_the_wire_only() {
    let body = vec![text(".a\r\nb.\r"), text("\n.\r\n\r\n"), text("."), text(".")];
    let letter = Letter::new("A: b\r\n.c: d\r\n".into(), body).unwrap();
    let (message, wire) = texts(&letter);
    assert_eq!(message, "A: b\r\n.c: d\r\n\r\n.a\r\nb.\r\n.\r\n\r\n..\r\n");
    assert_eq!(wire, "A: b\r\n..c: d\r\n\r\n..a\r\nb.\r\n..\r\n\r\n...\r\n.\r\n");
    assert_eq!(whole(letter.body()), b".a\r\nb.\r\n.\r\n\r\n..\r\n");
}

#[test]
fn a_letter_without_a_body_ends_with_its_empty_line() {
    let mut letter = Letter::new("A: b\r\n".into(), Vec::new()).unwrap();
    letter.put_on_top("B: c\r\n");
    assert_eq!(texts(&letter), ("B: c\r\nA: b\r\n\r\n".into(), "B: c\r\nA: b\r\n\r\n.\r\n".into()));
}

#[test]
fn what_cannot_travel_makes_no_letter() {
    for wrong in ["a\nb", "a\rb", "a\r", "\0"] {
        assert!(Letter::new("A: b\r\n".into(), vec![text(wrong)]).is_err(), "{wrong:?}");
        assert!(Letter::new(format!("A: {wrong}\r\n"), Vec::new()).is_err(), "{wrong:?}");
    }
    assert!(Letter::new("A: b".into(), Vec::new()).is_err());
    assert!(Letter::new("A: b\r\n".into(), vec![text(&"x".repeat(500)), text(&"x".repeat(499))]).is_err());
    let within_a_line = vec![text("x"), Segment::Base64(Bytes::from_static(b"y"))];
    assert!(Letter::new("A: b\r\n".into(), within_a_line).is_err());
}

#[test]
fn content_is_encoded_while_it_is_read() {
    for size in [1, 2, 56, 57, 58, 1_000, 65_536, 200_003] {
        let bytes: Vec<u8> = (0..=255).cycle().take(size).collect();
        let content = Bytes::from(bytes.clone());
        let letter = Letter::new("A: b\r\n".into(), vec![Segment::Base64(content), text("end")]).unwrap();
        let (message, wire) = texts(&letter);
        assert_eq!(wire, format!("{message}.\r\n"));
        let body = message.strip_prefix("A: b\r\n\r\n").unwrap().strip_suffix("end\r\n").unwrap();
        assert!(body.ends_with("\r\n") && body.lines().all(|line| line.len() <= 76));
        assert_eq!(BASE64_STANDARD.decode(body.replace("\r\n", "")).unwrap(), bytes);
    }
}

#[test]
fn a_small_letter_is_one_chunk_and_a_long_one_is_never_in_memory_as_a_whole() {
    let small = Letter::new("A: b\r\n".into(), vec![text(&".line\r\n".repeat(700))]).unwrap();
    assert!(small.wire().next_chunk().unwrap().1);
    let content = Bytes::from(vec![7; 1_000_000]);
    let long = Letter::new("A: b\r\n".into(), vec![Segment::Base64(content)]).unwrap();
    let (mut chunks, mut count) = (long.wire(), 0);
    while let Some((chunk, _)) = chunks.next_chunk() {
        assert!(chunk.len() < 66 * 1024);
        count += 1;
    }
    assert!(count > 20, "{count}");
}
