use proptest::prelude::*;

use super::*;

fn gate(serial: u64) -> Arc<Gate> {
    let address = Ipv4Addr::LOCALHOST;
    let init = InitClient::new((address, 9).into(), "token");
    Gate::open(
        Generation(1),
        Connections {
            since: Generation(1),
            kept: true,
        },
        address,
        init,
        Vec::new(),
        serial,
    )
}

#[test]
fn a_closed_gate_lets_nobody_in_and_everybody_out() {
    let gate = gate(1);
    let inside = gate.enter(Visit::InFlight).ok().unwrap();
    let attached = gate.enter(Visit::Attached).ok().unwrap();
    assert_eq!(gate.inside().in_flight, 1);
    gate.close();
    let refused = gate.enter(Visit::InFlight).err();
    assert_eq!(refused, Some(Refused::Closed));
    assert!(!gate.is_open());
    drop((inside, attached));
    assert_eq!(gate.inside(), Inside::default());
}

#[test]
fn a_gate_is_shut_only_when_no_request_is_inside() {
    let gate = gate(1);
    let attached = gate.enter(Visit::Attached).ok().unwrap();
    let request = gate.enter(Visit::InFlight).ok().unwrap();
    assert_eq!(gate.shut(), Err(1));
    assert!(gate.is_open());
    request.attach();
    request.attach();
    assert_eq!((gate.inside().in_flight, gate.inside().attached), (0, 2));
    drop(request);
    assert_eq!(gate.inside().attached, 1);
    assert_eq!(gate.shut(), Ok(()));
    assert!(!gate.is_open() && !gate.is_knocked());
    drop(attached);
}

#[tokio::test]
async fn who_knocks_is_heard_and_the_gate_is_not_closed() {
    let gate = gate(1);
    gate.knock();
    gate.shut().unwrap();
    assert!(!gate.is_knocked(), "a knock at an open gate is none");
    let refused = gate.enter(Visit::InFlight).err();
    assert_eq!(refused, Some(Refused::Shut));
    gate.knocked().await;
    assert!(!gate.close_unheard() && gate.is_knocked());
    gate.reopen();
    assert!(gate.enter(Visit::InFlight).is_ok());
    gate.shut().unwrap();
    assert!(gate.close_unheard());
    gate.knock();
    assert!(!gate.is_knocked() && !gate.is_open());
}

#[test]
fn visitors_and_the_driver_never_both_win() {
    for _ in 0..200 {
        let gate = gate(1);
        let visitors: Vec<_> = (0..3)
            .map(|_| {
                let gate = Arc::clone(&gate);
                std::thread::spawn(move || gate.enter(Visit::InFlight).map(drop))
            })
            .collect();
        let closed = gate.shut().is_ok() && gate.close_unheard();
        let refused: Vec<_> = visitors
            .into_iter()
            .filter_map(|visitor| visitor.join().unwrap().err())
            .collect();
        // Whoever was sent to wait was heard.
        assert!(!closed || refused.iter().all(|refused| *refused == Refused::Closed));
    }
}

#[derive(Debug, Clone, Copy)]
enum Move {
    Enter,
    Leave,
    Knock,
    Shut,
    Reopen,
    CloseUnheard,
    Close,
}

proptest! {
    /// Whatever visitors and driver do: it is shut only while nobody is inside, whoever came to
    /// a shut gate is heard, and behind a closed one is nobody new.
    #[test]
    fn along_any_moves_nobody_is_lost(moves in prop::collection::vec(prop::sample::select(&[
        Move::Enter, Move::Enter, Move::Leave, Move::Knock, Move::Shut, Move::Reopen,
        Move::CloseUnheard, Move::Close,
    ][..]), 0..60)) {
        let gate = gate(1);
        let mut inside = Vec::new();
        let (mut shut, mut closed, mut knocked) = (false, false, false);
        for step in moves {
            match step {
                Move::Enter => match gate.enter(Visit::InFlight) {
                    Ok(pass) => {
                        prop_assert!(!shut && !closed);
                        inside.push(pass);
                    }
                    Err(Refused::Closed) => prop_assert!(closed),
                    Err(Refused::Shut) => {
                        prop_assert!(shut && !closed);
                        knocked = true;
                    }
                },
                Move::Leave => drop(inside.pop()),
                Move::Knock => {
                    gate.knock();
                    knocked |= shut && !closed;
                }
                // The driver never shuts, nor opens, what it has closed, but after a commit
                // that failed.
                Move::Shut if closed || shut => {}
                Move::Shut => {
                    let done = gate.shut();
                    prop_assert_eq!(done.is_ok(), inside.is_empty());
                    (shut, knocked) = (done.is_ok(), false);
                }
                Move::Reopen => {
                    gate.reopen();
                    (shut, closed, knocked) = (false, false, false);
                }
                Move::CloseUnheard => {
                    let done = gate.close_unheard();
                    prop_assert_eq!(done, shut && !closed && !knocked);
                    closed |= done;
                }
                Move::Close => {
                    gate.close();
                    closed = true;
                }
            }
            prop_assert_eq!(gate.is_open(), !shut && !closed);
            prop_assert_eq!(gate.is_knocked(), shut && !closed && knocked);
            prop_assert_eq!(gate.inside().in_flight as usize, inside.len());
        }
    }
}

#[test]
fn keys_tell_gates_and_ports_apart() {
    let (one, other) = (gate(1), gate(2));
    let keys = [one.pool_key(80), one.pool_key(81), other.pool_key(80)];
    assert_eq!(keys[0], one.pool_key(80));
    assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
    assert_ne!(one.pool_key(u16::MAX), other.pool_key(0));
}

#[test]
fn the_way_that_worked_is_tried_first() {
    let gate = gate(1);
    assert_eq!(gate.way(3000), Way::Direct);
    gate.worked(3000, Way::Forward);
    assert_eq!(
        (gate.way(3000), gate.way(3001)),
        (Way::Forward, Way::Direct)
    );
    gate.failed(3000);
    assert_eq!(gate.way(3000), Way::Direct);
}
