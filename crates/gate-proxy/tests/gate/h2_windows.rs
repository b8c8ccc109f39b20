//! What a client of HTTP/2 may send ahead: little before its body is awaited, more behind that where there is room, and what
//! nobody wants is kept nowhere.

use crate::house::{House, LIMITS, PIPE, run};
use crate::web::{Coming, Web, request};
use crate::wire::{CHAT, blob, json};
use gate_proxy::Limits;
use gate_types::{Scope, ScopeSet};
use h2::client::Builder;
use std::future::poll_fn;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The windows that every connection begins with.
const STRANGERS: usize = 65_535;

/// An upload whose upstream takes nothing of it beyond the head.
async fn stuck_upload(house: &House, web: &mut Web, key: &str) -> Coming {
    house.narrow(0, 512);
    let path = blob();
    web.open(request("POST", &path, key).header("content-length", 8 << 20), false).await
}

/// Sends for as long as the gate gives room; how many bytes that were.
async fn send_all_it_takes(coming: &mut Coming) -> usize {
    coming.body.reserve_capacity(8 << 20);
    let mut sent = 0;
    while let Ok(Some(Ok(room))) =
        timeout(Duration::from_secs(1), poll_fn(|cx| coming.body.poll_capacity(cx))).await
    {
        sent += room;
        coming.body.send_data(vec![b'x'; room].into(), false).unwrap();
    }
    sent
}

#[test]
fn a_known_callers_window_opens_also_where_its_body_came_before_anything_was_acknowledged() {
    run(async {
        let house = House::new(1);
        let manage = house.manager();
        let mut web = Web::connect_far(&house, Duration::from_millis(100)).await;
        let _first = web.send(request("POST", "/api/chat", &house.key), &"x".repeat(60_000)).await;
        let mut coming = stuck_upload(&house, &mut web, &manage).await;
        let sent = send_all_it_takes(&mut coming).await;
        assert!(sent > 200_000 && sent < 500_000, "{sent}");
    });
}

#[test]
fn wide_windows_are_counted_and_given_only_while_there_is_much_room() {
    run(async {
        let house = House::with(1, Limits { held: 4 << 20, ..LIMITS });
        let manage = house.manager();
        let mut first = Web::connect(&house).await;
        let mut wide = stuck_upload(&house, &mut first, &manage).await;
        assert!(send_all_it_takes(&mut wide).await > 200_000);
        let counted = house.shared.held_bytes();
        assert!(counted > 900_000 && counted < 1_100_000, "{counted}");
        let mut second = Web::connect(&house).await;
        let mut narrow = stuck_upload(&house, &mut second, &manage).await;
        let sent = send_all_it_takes(&mut narrow).await;
        assert!(sent < 2 * STRANGERS, "{sent}");

        // A body finds room all the same.
        let body = CHAT.replace("hi", &"x".repeat(900_000));
        let chat = second.send(request("POST", "/api/chat", "wrong"), "").await.head().await;
        assert_eq!(chat.status, 401, "the connection is sound");
        house.narrow(0, PIPE);
        let mut third = Web::connect(&house).await;
        let coming = third.send(request("POST", "/api/chat", &house.key), &body).await;
        let (_first, _second) = (house.accept(0).await, house.accept(0).await);
        let mut upstream = house.accept(0).await;
        upstream.serve(json(200, "{}")).await;
        assert_eq!(coming.head().await.status, 200);

        // What ends gives its room to the next who is looked at.
        first.leave().await;
        narrow.reset();
        let mut next = stuck_upload(&house, &mut second, &manage).await;
        assert!(send_all_it_takes(&mut next).await > 200_000);
        second.leave().await;
        third.leave().await;
        assert!(house.shared.held_bytes() < 200_000, "{} are still counted", house.shared.held_bytes());
    });
}

#[test]
fn a_strangers_body_lies_nowhere_while_its_answer_waits() {
    run(async {
        let house = House::new(1);
        let mut web = Web::connect_with(&house, Builder::new().initial_window_size(0), PIPE).await;
        for (count, (path, status)) in
            [("/", 405), ("/api/chat", 401), ("/nothing", 404)].into_iter().enumerate()
        {
            let mut coming = web.open(request("POST", path, "wrong"), false).await;
            assert_eq!(send_all_it_takes(&mut coming).await, 8 << 20, "{path}");
            assert_eq!(house.records().len(), count, "its answer still waits");
            assert_eq!(coming.head().await.status, status);
            sleep(LIMITS.head_time * 2).await;
        }
    });
}

#[test]
fn a_body_that_the_route_does_not_know_holds_up_nobody() {
    run(async {
        let house = House::new(1);
        let cloud = house.add_key(|key| key.scopes = ScopeSet::of(&[Scope::Cloud]));
        let mut web = Web::connect(&house).await;
        let mut coming = web.open(request("POST", "/api/me", &cloud), false).await;
        assert_eq!(send_all_it_takes(&mut coming).await, 8 << 20);
        let mut upstream = house.accept(0).await;
        let asked = upstream.serve(json(200, "{}")).await;
        assert_eq!(asked.body, b"");
        assert_eq!(coming.head().await.status, 200);
    });
}
