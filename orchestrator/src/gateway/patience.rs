//! A client that takes nothing of what is sent to it: its connection is cut, and holds neither a place nor memory.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// Longest time for which a client may take nothing while there is something to send.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Looks in vain, spread over that time, before the connection is cut. They are counted rather than the time: a process
/// that stood still itself has not waited for anybody.
const LOOKS: u32 = 10;

/// A connection whose writes fail with [`io::ErrorKind::TimedOut`] when not one byte was taken for a while. Whoever
/// takes a little now and then is never cut.
#[derive(Debug)]
pub(super) struct Patient {
    stream: TcpStream,
    patience: Duration,
    stall: Option<Stall>,
}

/// A write that waits.
#[derive(Debug)]
struct Stall {
    looks: u32,
    next_look: Pin<Box<Sleep>>,
}

impl Patient {
    pub(super) fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, patience, stall: None }
    }

    /// What comes of a write of which the stream said `tried`; `bytes` are the first that it did not take.
    fn judge(&mut self, cx: &mut Context<'_>, tried: Poll<io::Result<usize>>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if tried.is_ready() {
            self.stall = None;
            return tried;
        }
        let pause = self.patience / LOOKS;
        let stall = self.stall.get_or_insert_with(|| Stall { looks: 0, next_look: Box::pin(sleep(pause)) });
        while stall.next_look.as_mut().poll(cx).is_ready() {
            match push(&self.stream, bytes) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                told => {
                    self.stall = None;
                    return Poll::Ready(told);
                }
            }
            stall.looks += 1;
            if stall.looks == LOOKS {
                // What the system still holds for the client goes too.
                let _ = self.stream.set_zero_linger();
                let said = format!("the client took nothing for {:?}", self.patience);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, said)));
            }
            stall.next_look.as_mut().reset(Instant::now() + pause);
        }
        Poll::Pending
    }
}

/// Writes past the runtime, which is told of room only when a third of the system's buffer is free: megabytes, for which
/// a slow client takes minutes.
#[cfg(unix)]
fn push(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    use std::io::Write;
    use std::os::fd::AsFd;

    // The copy shares the connection, and so that it does not block. No room for a copy is no fault of the client.
    match stream.as_fd().try_clone_to_owned() {
        Ok(copy) => std::net::TcpStream::from(copy).write(bytes),
        Err(_) => Err(io::ErrorKind::WouldBlock.into()),
    }
}

#[cfg(not(unix))]
fn push(_: &TcpStream, _: &[u8]) -> io::Result<usize> {
    Err(io::ErrorKind::WouldBlock.into())
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, tried, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        let first = parts.iter().find(|part| !part.is_empty());
        self.judge(cx, tried, first.map_or(&[], |part| part))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair(patience: Duration) -> (Patient, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Patient::new(accepted.expect("a connection").0, patience), client.expect("a connection"))
    }

    #[tokio::test]
    async fn who_takes_nothing_is_cut() {
        let (mut patient, mut client) = pair(Duration::from_millis(300)).await;
        let bytes = vec![7; 1 << 20];
        let error = loop {
            if let Err(error) = patient.write_all(&bytes).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(patient);
        let cut = client.read_to_end(&mut Vec::new()).await.expect_err("nothing more is kept for the client");
        assert_eq!(cut.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn who_is_slow_gets_everything() {
        const ALL: usize = 12 << 20;
        // A third of the system's buffer takes this client longer than the patience lasts.
        let (mut patient, mut client) = pair(Duration::from_millis(400)).await;
        let sending = tokio::spawn(async move { patient.write_all(&vec![7; ALL]).await });
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        let (mut part, mut taken) = (vec![0; 128 << 10], 0);
        while taken < ALL {
            pace.tick().await;
            let read = client.read(&mut part).await.expect("more");
            assert!(read > 0, "cut after {taken} bytes");
            taken += read;
        }
        sending.await.expect("no panic").expect("everything was taken");
    }

    #[tokio::test]
    async fn silence_of_the_sender_is_nobodys_fault() {
        let (mut patient, mut client) = pair(Duration::from_millis(100)).await;
        let mut byte = [0];
        let nothing = tokio::time::timeout(Duration::from_millis(500), patient.read(&mut byte)).await;
        assert!(nothing.is_err(), "a read waits as long as it likes");
        patient.write_all(b"x").await.expect("it is taken");
        client.read_exact(&mut byte).await.expect("a byte");
        assert_eq!(&byte, b"x");
    }
}
