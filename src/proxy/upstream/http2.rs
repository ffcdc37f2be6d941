//! The app over HTTP/2 without TLS, begun without asking (RFC 9113 §3.3): few connections, many requests on each.
//!
//! A [`Channel`] belongs to one worker and one route. It fills the oldest connection first, so that those that are
//! needed no more fall idle and are closed. A connection that was told GOAWAY, or broke, takes no new request; what is
//! on it goes on.
//!
//! Not here: what a request says ([`crate::proxy::headers::http2`]).

mod adapter;
mod app;
mod link;
mod tasks;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use http::Request;
use tokio::sync::Mutex;

pub(in crate::proxy) use self::app::Http2App;
use self::{
    adapter::Adapter,
    link::{Keeper, Link, Place},
    tasks::Tasks,
};
use super::dial::Dialer;
use crate::{
    config::Config,
    proxy::{alarm::Alarms, error::Fault, request::HeadLimits},
    tracker::Count,
    units::Uptime,
};

/// The connections over HTTP/2 to one route's app.
#[derive(Debug)]
pub(in crate::proxy) struct Channel {
    keeper: Rc<Keeper>,
    links: RefCell<Vec<Rc<Link>>>,
    /// One connection is opened at a time, so that a burst does not open one for each request.
    opening: Mutex<()>,
    /// How many times opening has failed, and how the last time.
    failures: Cell<(u64, Fault)>,
    /// Most connections at a time.
    bound: usize,
    limits: HeadLimits,
    tasks: Rc<Tasks>,
}

// === impl Channel ===

impl Channel {
    pub(super) fn new(dialer: &Rc<Dialer>, config: &Config, alarms: &Rc<Alarms>) -> Self {
        // No more than clients may have: over HTTP/1.1 the app gets one connection for each request, too.
        let share = config.limits.max_connections / (config.workers * config.routes.len()).max(1);
        let limits = &config.limits;
        Self {
            keeper: Keeper::new(dialer, alarms),
            links: RefCell::new(Vec::new()),
            opening: Mutex::new(()),
            failures: Cell::new((0, Fault::ConnectTimeout)),
            bound: share.max(1),
            limits: HeadLimits { bytes: limits.max_header_size, fields: limits.max_headers },
            tasks: Rc::default(),
        }
    }

    /// Sends a request's head to the app. `ends`: there is no body. `may_return` says whether an app that is not
    /// there may come back.
    ///
    /// # Errors
    /// The app can't be reached, takes no more requests, or does not speak HTTP/2; or HTTP/2 can't say the head.
    pub(in crate::proxy) async fn begin(
        &self,
        request: Request<()>,
        ends: bool,
        may_return: impl Fn() -> bool,
    ) -> Result<Http2App, Fault> {
        Http2App::start(self.place(may_return).await?, request, ends)
    }

    /// A place for one exchange of an HTTP/1.1 client.
    pub(super) async fn adapter(&self, may_return: impl Fn() -> bool) -> Result<Adapter, Fault> {
        let place = self.place(may_return).await?;
        let patience = self.keeper.dialer.limits.idle_timeout;
        Ok(Adapter::new(place, self.limits, Rc::clone(&self.tasks), patience))
    }

    /// Closes connections that nobody has used for long enough. Returns when to come again.
    pub(super) fn expire(&self, now: Uptime) -> Uptime {
        let mut links = self.links.borrow_mut();
        links.retain(|link| !link.is_broken() && now < link.idle_until());
        links.iter().map(|link| link.idle_until()).min().unwrap_or(Uptime::NEVER)
    }

    async fn place(&self, may_return: impl Fn() -> bool) -> Result<Place, Fault> {
        let started = self.keeper.dialer.clock.now();
        let give_up = self.keeper.dialer.give_up(started);
        let failures = self.failures.get().0;
        loop {
            if let Some(place) = self.find().await {
                return Ok(place);
            }
            if self.links.borrow().len() >= self.bound {
                let until = self.keeper.dialer.clock.instant(give_up);
                let freed = tokio::time::timeout_at(until, self.keeper.freed.notified());
                freed.await.map_err(|_| Fault::ConnectTimeout)?;
                continue;
            }
            let _turn = self.opening.lock().await;
            if let Some(place) = self.find().await {
                return Ok(place);
            }
            let (failures_now, last) = self.failures.get();
            if failures_now != failures && self.keeper.dialer.clock.now() >= give_up {
                return Err(last);
            }
            // Boxed: its state is large, rarely needed, and would be part of every request's task.
            let opening = Box::pin(link::open(&self.keeper, self.limits, started, &may_return));
            match opening.await {
                Ok((link, driver)) => {
                    self.links.borrow_mut().push(link);
                    self.tasks.spawn(driver.run());
                }
                Err(fault) => {
                    self.failures.set((failures_now + 1, fault));
                    return Err(fault);
                }
            }
        }
    }

    /// A place on a connection that is open, if there is one.
    async fn find(&self) -> Option<Place> {
        loop {
            let place = {
                let mut links = self.links.borrow_mut();
                links.retain(|link| !link.is_broken());
                links.iter().find_map(Link::place)?
            };
            // What is known of a busy connection is new; an idle one may have been closed a moment ago.
            if place.is_fresh() || place.is_sound().await {
                if place.is_reused() {
                    self.keeper.dialer.tracker.add(Count::UpstreamReused, 1);
                }
                return Some(place);
            }
            self.keeper.dialer.tracker.add(Count::UpstreamStale, 1);
        }
    }
}
