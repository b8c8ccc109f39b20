//! Where the requests of HTTP/1.1 connections are served: seats, each with the memory that one request needs, two kilobytes and
//! more. Whoever has been served leaves the seat to the next one, so that no request pays for getting and giving back memory of
//! that size, and a parked connection holds none.
//!
//! A seat is one future that never ends: it waits for somebody to be seated, serves them, and waits again. Who leaves
//! early, because its task was ended, takes the seat along: nothing of a request can ever reach the next one.

use super::h1::After;
use super::{ClientStream, Head};
use crate::downstream::conn::Conn;
use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

/// Empty seats that a core keeps for each kind of connection; some hundred kilobytes behind a rush.
const KEPT: usize = 64;

/// The empty seats of one core.
#[derive(Default)]
pub(crate) struct Seats(RefCell<Vec<Row>>);

/// The empty seats for one kind of connection.
struct Row {
    kind: TypeId,
    seats: Vec<Box<dyn Any>>,
}

struct Seat<IO> {
    table: Rc<Table<IO>>,
    serving: Pin<Box<dyn Future<Output = ()>>>,
}

/// What lies between a connection and its seat.
struct Table<IO> {
    asked: Laid<IO, Rc<Head>>,
    served: Laid<IO, After>,
}

/// A connection, and what is to be done with it or what has become of it.
type Laid<IO, What> = Cell<Option<(Box<Conn<IO>>, What)>>;

impl Seats {
    /// Serves one request of a connection with `serve`, which is the same function every time, and gives the connection back.
    pub(super) async fn serve<IO, S>(
        &self,
        conn: Box<Conn<IO>>,
        head: Rc<Head>,
        serve: S,
    ) -> (Box<Conn<IO>>, After)
    where
        IO: ClientStream + 'static,
        S: AsyncFn(&mut Conn<IO>, Rc<Head>) -> After + 'static,
    {
        let mut seat = self.take().unwrap_or_else(|| Box::new(Seat::new(serve)));
        seat.table.asked.set(Some((conn, head)));
        let served = poll_fn(|cx| {
            // It never ends: what it has to say lies on the table.
            let _pending = seat.serving.as_mut().poll(cx);
            seat.table.served.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        self.leave(seat);
        served
    }

    fn take<IO: 'static>(&self) -> Option<Box<Seat<IO>>> {
        let mut rows = self.0.borrow_mut();
        let row = rows.iter_mut().find(|row| row.kind == TypeId::of::<IO>())?;
        row.seats.pop()?.downcast().ok()
    }

    fn leave<IO: 'static>(&self, seat: Box<Seat<IO>>) {
        let mut rows = self.0.borrow_mut();
        let kind = TypeId::of::<IO>();
        match rows.iter_mut().find(|row| row.kind == kind) {
            Some(row) if row.seats.len() < KEPT => row.seats.push(seat),
            Some(_) => {}
            None => rows.push(Row { kind, seats: vec![seat] }),
        }
    }
}

impl<IO: ClientStream + 'static> Seat<IO> {
    fn new<S>(serve: S) -> Self
    where
        S: AsyncFn(&mut Conn<IO>, Rc<Head>) -> After + 'static,
    {
        let table = Rc::new(Table { asked: Cell::new(None), served: Cell::new(None) });
        let here = Rc::clone(&table);
        let serving = Box::pin(async move {
            loop {
                let (mut conn, head) =
                    poll_fn(|_| here.asked.take().map_or(Poll::Pending, Poll::Ready)).await;
                let after = serve(&mut conn, head).await;
                here.served.set(Some((conn, after)));
            }
        });
        Self { table, serving }
    }
}

impl std::fmt::Debug for Seats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kept: usize = self.0.borrow().iter().map(|row| row.seats.len()).sum();
        write!(f, "Seats({kept} empty)")
    }
}
