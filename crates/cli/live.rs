//! The report of a search that is running, on a page that follows it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use strait::ops::Catalog;
use strait::report::{Report, page};

use crate::failure::Failure;

/// Serves the run at `path` to this machine, from a thread of its own, until the process ends.
///
/// It reads the files of the run when it is asked and touches nothing of the search; whatever goes wrong with it
/// stays with whoever asked. Two things are answered: the page, and its data.
pub(crate) fn serve(path: &Path, port: u16) -> Result<SocketAddr, Failure> {
    let fail = |error| Failure::new(format!("cannot serve a page on port {port}"), error);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(fail)?;
    listener.set_nonblocking(true).map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    let app = Router::new()
        .route("/", get(whole))
        .route("/data.json", get(data))
        .layer(middleware::from_fn(only_this_machine))
        .with_state(path.to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(fail)?;
    let work = move || {
        runtime.block_on(async {
            let served = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => axum::serve(listener, app).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::warn!(%error, "the live page has ended; the search goes on");
            }
        });
    };
    thread::Builder::new().name("live".to_owned()).spawn(work).map_err(fail)?;
    Ok(address)
}

async fn whole(State(path): State<PathBuf>) -> Response {
    answer(&path, "text/html; charset=utf-8", page)
}

async fn data(State(path): State<PathBuf>) -> Response {
    answer(&path, "application/json", Report::to_json)
}

fn answer(path: &Path, kind: &'static str, say: impl FnOnce(&Report) -> String) -> Response {
    match Report::read(&[path], &Catalog::standard()) {
        Ok(report) => ([(header::CONTENT_TYPE, kind)], say(&report.live())).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// A page elsewhere may point its own name at this machine; it is not answered.
async fn only_this_machine(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    match host.rsplit_once(':').map_or(host, |(name, _)| name) {
        "127.0.0.1" | "localhost" => next.run(request).await,
        _ => StatusCode::FORBIDDEN.into_response(),
    }
}
