//! Conversations of any shape, cut anywhere, with frames of ours in between.

use proptest::prelude::*;

use super::*;

/// A frame of either end, as bytes.
fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(masked | u8::try_from(length).unwrap()),
        length @ 126..65_536 => {
            bytes.push(masked | 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(masked | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask.iter().flatten());
    let mask = mask.unwrap_or_default();
    bytes.extend((payload.iter().zip(0..)).map(|(byte, at)| byte ^ mask[at % 4]));
    bytes
}

/// First byte and payload of each frame in `bytes`.
fn parse(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut frames, mut rest) = (Vec::new(), bytes);
    while let [first, second, after @ ..] = rest {
        let (length, after) = match second & 0x7f {
            126 => (
                usize::from(after[0]) << 8 | usize::from(after[1]),
                &after[2..],
            ),
            127 => (
                usize::try_from(u64::from_be_bytes(after[..8].try_into().unwrap())).unwrap(),
                &after[8..],
            ),
            length => (usize::from(length), after),
        };
        let (mask, after) = match second & 0x80 {
            0 => ([0; 4], after),
            _ => (after[..4].try_into().unwrap(), &after[4..]),
        };
        let payload = after[..length].iter().zip(0..);
        frames.push((
            *first,
            payload.map(|(byte, at)| byte ^ mask[at % 4]).collect(),
        ));
        rest = &after[length..];
    }
    assert!(rest.is_empty(), "half a frame is left: {rest:?}");
    frames
}

/// A message in pieces: text or binary, with control frames between the pieces.
fn message() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let payload = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..200),
        1 => prop::collection::vec(any::<u8>(), 65_530..65_545),
    ];
    let pieces = prop::collection::vec((payload, any::<bool>()), 1..4);
    (any::<bool>(), pieces).prop_map(|(text, pieces)| {
        let last = pieces.len() - 1;
        let mut frames = Vec::new();
        for (at, (payload, ping)) in pieces.into_iter().enumerate() {
            let opcode = match at {
                0 => {
                    if text {
                        1
                    } else {
                        2
                    }
                }
                _ => 0,
            };
            let end = if at == last { 0x80 } else { 0 };
            frames.push((end | opcode, payload));
            if ping {
                frames.push((0x89, b"theirs".to_vec()));
            }
        }
        frames
    })
}

fn cut(bytes: &[u8], sizes: &[usize], mut each: impl FnMut(usize, &[u8])) {
    let (mut rest, mut number) = (bytes, 0);
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(sizes[number % sizes.len()].min(rest.len()));
        each(number, chunk);
        rest = after;
        number += 1;
    }
}

fn websocket() -> Relay {
    Relay::new(Some(Beats::default()))
}

proptest! {
    #[test]
    fn messages_cross_intact_with_our_pings_between(
        messages in prop::collection::vec(message(), 0..5),
        sizes in prop::collection::vec(prop_oneof![1usize..20, 1usize..70_000], 1..12),
        pings in prop::collection::vec(any::<bool>(), 1..12),
    ) {
        let sent: Vec<_> = messages.concat();
        let bytes: Vec<u8> = sent.iter().flat_map(|(first, data)| frame(*first, data, None)).collect();
        let mut relay = websocket();
        let (mut out, mut pinged) = (Vec::new(), 0);
        cut(&bytes, &sizes, |number, chunk| {
            relay.app_says(chunk);
            if pings[number % pings.len()] {
                relay.ping();
                pinged += 1;
            }
            let ready = relay.to_visitor().to_vec();
            relay.visitor_took(ready.len());
            out.extend(ready);
        });
        let (ours, theirs): (Vec<_>, Vec<_>) = parse(&out)
            .into_iter()
            .partition(|(first, data)| *first == 0x89 && data.starts_with(PING_MARK));
        prop_assert_eq!(theirs, sent);
        prop_assert!(ours.len() <= pinged);
        prop_assert!(pinged * 20 > OURS || ours.len() == pinged, "{} of {pinged}", ours.len());
    }

    #[test]
    fn what_a_visitor_says_to_a_sleeper_is_kept_in_order(
        before in prop::collection::vec(message(), 0..3),
        asleep in prop::collection::vec(message(), 0..3),
        sizes in prop::collection::vec(1usize..4000, 1..12),
        mask in any::<[u8; 4]>(),
    ) {
        let mut relay = websocket();
        let masked = |messages: &[Vec<(u8, Vec<u8>)>]| -> Vec<u8> {
            let frames = messages.iter().flatten();
            frames.flat_map(|(first, data)| frame(*first, data, Some(mask))).collect()
        };
        let mut heard = Vec::new();
        cut(&masked(&before), &sizes, |_, chunk| {
            relay.visitor_says(chunk, false);
            let ready = relay.to_app().to_vec();
            relay.app_took(ready.len());
            heard.extend(ready);
        });
        prop_assert_eq!(relay.noticed().used, !before.is_empty());
        cut(&masked(&asleep), &sizes, |_, chunk| relay.visitor_says(chunk, true));
        let noticed = relay.noticed();
        prop_assert_eq!((noticed.used, noticed.needs_app), (!asleep.is_empty(), !asleep.is_empty()));
        heard.extend_from_slice(relay.to_app());
        let pings = asleep.iter().flatten().filter(|(first, _)| *first == 0x89).count();
        let kept = asleep.iter().flatten().filter(|(first, _)| *first != 0x89);
        let expected: Vec<_> = before.iter().flatten().chain(kept).cloned().collect();
        prop_assert_eq!(parse(&heard), expected);
        let pongs = vec![(0x8a, b"theirs".to_vec()); pings];
        prop_assert_eq!(parse(relay.to_visitor()), pongs, "we answer, in its stead");
    }

    #[test]
    fn plain_bytes_pass(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut relay = Relay::new(None);
        relay.visitor_says(&bytes, false);
        relay.app_says(&bytes);
        relay.ping();
        relay.close(Code::GoingAway, "", [0; 4]);
        prop_assert_eq!((relay.to_app(), relay.to_visitor()), (&bytes[..], &bytes[..]));
    }
}

fn said(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes(), Some([9, 8, 7, 6]))
}

#[test]
fn answers_to_our_pings_stay_with_us() {
    let mut relay = websocket();
    relay.ping();
    let [(0x89, payload)] = &parse(relay.to_visitor())[..] else {
        panic!("no ping");
    };
    relay.visitor_says(&frame(0x8a, payload, Some([1, 2, 3, 4])), false);
    relay.visitor_says(&frame(0x8a, b"to the app", Some([1, 2, 3, 4])), false);
    assert_eq!(parse(relay.to_app()), [(0x8a, b"to the app".to_vec())]);
    assert_eq!(relay.noticed(), Noticed::default(), "nobody used anything");
}

#[test]
fn a_close_is_answered_for_a_sleeper_and_handed_over_later() {
    let mut relay = websocket();
    let close = frame(
        0x88,
        &[&1000u16.to_be_bytes()[..], b"bye"].concat(),
        Some([5; 4]),
    );
    relay.visitor_says(&close, true);
    assert_eq!(
        parse(relay.to_visitor()),
        [(0x88, 1000u16.to_be_bytes().to_vec())]
    );
    assert_eq!(relay.to_app(), close);
    assert!(!relay.noticed().needs_app && relay.is_closed());
    relay.ping();
    relay.close(Code::Restart, "", [0; 4]);
    assert_eq!(
        parse(relay.to_visitor()).len(),
        1,
        "nothing follows a close"
    );
    assert_eq!(relay.to_app(), close);
}

#[test]
fn both_ends_are_told_of_the_end_unless_in_the_middle_of_a_frame() {
    let mut relay = websocket();
    relay.close(Code::GoingAway, "shutting down", [1, 2, 3, 4]);
    let told = vec![(0x88, farewell(Code::GoingAway, "shutting down"))];
    assert_eq!(parse(relay.to_visitor()), told);
    assert_eq!(parse(relay.to_app()), told);
    let mut relay = websocket();
    relay.app_says(&frame(0x82, &[0; 1000], None)[..500]);
    relay.close(Code::GoingAway, "", [0; 4]);
    assert_eq!(relay.to_visitor().len(), 500);
    assert_eq!(parse(relay.to_app()).len(), 1);
}

#[test]
fn heartbeats_are_no_use_and_sleepers_need_not_wake_for_them() {
    let beats = Beats::of("/socket.io/?EIO=4&transport=websocket", None);
    let mut relay = Relay::new(Some(beats));
    relay.app_says(&frame(0x81, b"2", None));
    relay.visitor_says(&said("3"), false);
    let noticed = relay.noticed();
    assert!(noticed.asked && !noticed.used && !noticed.answered);
    assert_eq!(parse(relay.to_app()), [(0x81, b"3".to_vec())]);
    relay.app_took(relay.to_app().len());
    // Asleep: we ask, and keep the answer, also when it comes late.
    relay.ask_for_beat();
    relay.ask_for_beat();
    relay.visitor_says(&said("3"), true);
    assert_eq!(relay.noticed(), Noticed::default());
    relay.visitor_says(&said("3"), false);
    relay.visitor_says(&said("3"), false);
    assert_eq!(parse(relay.to_app()), [(0x81, b"3".to_vec())]);
    relay.visitor_says(&said("42[\"chat\",\"hi\"]"), true);
    assert!(relay.noticed().needs_app);
}

#[test]
fn a_long_heartbeat_is_kept_from_a_sleeper_as_a_whole() {
    let mut relay = websocket();
    let ping = format!(r#"{{"event":"ping","tree":"{}"}}"#, "x".repeat(5000));
    let (bytes, data) = (said(&ping), said("data"));
    cut(&bytes, &[7, 100], |_, chunk| {
        relay.visitor_says(chunk, true)
    });
    assert_eq!(relay.noticed(), Noticed::default());
    assert!(relay.to_app().is_empty());
    // Awake in the middle of it.
    relay.visitor_says(&bytes[..300], true);
    relay.visitor_says(&bytes[300..], false);
    relay.visitor_says(&data, false);
    assert_eq!(relay.to_app(), data);
    relay.app_took(data.len());
    relay.visitor_says(&bytes, false);
    assert_eq!(parse(relay.to_app()).len(), 1);
}
