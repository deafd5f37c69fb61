//! An echo server and its clients in one process, on one thread.
//!
//! `cargo run --example echo` serves 100 clients at once and says what they got back.

use std::io;

use rgevent_runtime::{
    JoinHandle,
    hub::Hub,
    net::{TcpListener, TcpStream},
    spawn,
};

const CLIENTS: usize = 100;
const ROUNDS: usize = 10;

fn serve(stream: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.recv(&mut buffer, None)? {
            0 => return Ok(()),
            count => stream.send_all(&buffer[..count], None)?,
        }
    }
}

fn ask(address: std::net::SocketAddr, name: usize) -> io::Result<usize> {
    let hub = Hub::current();
    let limit = Some(hub.deadline_after(std::time::Duration::from_secs(10)));
    let stream = TcpStream::connect(address, limit)?;
    let mut echoed = 0;
    for round in 0..ROUNDS {
        let question = format!("client {name}, round {round}");
        stream.send_all(question.as_bytes(), limit)?;
        let mut answer = vec![0; question.len()];
        stream.recv_exact(&mut answer, limit)?;
        assert_eq!(answer, question.as_bytes());
        echoed += answer.len();
    }
    Ok(echoed)
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address"))?;
    let address = listener.local_addr()?;
    spawn(move || {
        while let Ok((stream, _)) = listener.accept(None) {
            spawn(move || serve(&stream));
        }
    });
    let clients: Vec<JoinHandle<_>> = (0..CLIENTS)
        .map(|name| spawn(move || ask(address, name)))
        .collect();
    let mut echoed = 0;
    for client in clients {
        echoed += client.join()?.expect("no panic")?;
    }
    println!("{CLIENTS} clients got {echoed} bytes back");
    Ok(())
}
