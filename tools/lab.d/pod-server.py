#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What each pod of the lab serves, on port 8080 unless told otherwise, IPv4 and IPv6.

HTTP (connections are kept alive):
  GET /                           "POD CLIENT-ADDRESS CLIENT-PORT"
  GET /download?bytes=N&rate=R    N bytes of a known pattern, at R bytes a second (0: as fast as can be)
  POST /                          "POD SHA256-OF-THE-BODY"
UDP: each datagram is answered with "POD CLIENT-ADDRESS CLIENT-PORT DATAGRAM".
"""
import argparse
import hashlib
import http.server
import ipaddress
import socket
import sys
import threading
import time
import urllib.parse

PERIOD = 251  # a prime: a lost or doubled piece shows
MOST = 65536  # bytes a write
PATTERN = bytes(range(PERIOD)) * (MOST // PERIOD + 2)


def plain(address):
    """An address of a dual-stack socket as people write it."""
    ip = ipaddress.ip_address(address.split("%")[0])
    return str(ip.ipv4_mapped or ip)


def dual_stack(kind, port):
    sock = socket.socket(socket.AF_INET6, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("::", port))
    return sock


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, text):
        body = (text + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/":
            self.answer(f"{self.server.pod} {plain(self.client_address[0])} {self.client_address[1]}")
        elif url.path == "/download":
            query = dict(urllib.parse.parse_qsl(url.query))
            try:
                self.download(int(query.get("bytes", 1 << 20)), int(query.get("rate", 0)))
            except ValueError:
                self.send_error(400, "bytes and rate are whole numbers")
        else:
            self.send_error(404)

    def download(self, total, rate):
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("X-Pod", self.server.pod)
        self.send_header("Content-Length", str(total))
        self.end_headers()
        start, sent = time.monotonic(), 0
        while sent < total:
            step = min(total - sent, max(1, rate // 50) if rate else MOST, MOST)
            self.wfile.write(PATTERN[sent % PERIOD:][:step])
            sent += step
            if rate:
                time.sleep(max(0.0, start + sent / rate - time.monotonic()))

    def do_POST(self):
        left, digest = int(self.headers.get("Content-Length", 0)), hashlib.sha256()
        while left > 0:
            piece = self.rfile.read(min(left, 65536))
            if not piece:
                return
            digest.update(piece)
            left -= len(piece)
        self.answer(f"{self.server.pod} {digest.hexdigest()}")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, pod, port):
        super().__init__(("::", port), Handler, bind_and_activate=False)
        self.pod = pod
        self.socket.close()
        self.socket = dual_stack(socket.SOCK_STREAM, port)
        self.socket.listen(512)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def echo_datagrams(pod, port):
    sock = dual_stack(socket.SOCK_DGRAM, port)
    while True:
        try:
            data, peer = sock.recvfrom(65535)
            sock.sendto(f"{pod} {plain(peer[0])} {peer[1]} ".encode() + data, peer)
        except OSError:
            continue  # an ICMP error about an answer sent earlier, or one too long to send


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pod", help="the name to answer with")
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()
    server = Server(arguments.pod, arguments.port)
    threading.Thread(target=echo_datagrams, args=(arguments.pod, arguments.port), daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
