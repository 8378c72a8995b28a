# SPDX-License-Identifier: mpich2
import os

from scratch import SIZE, Case, is_silent, ring, rings


class Protocol(Case):
    def test_a_client_alone(self):
        self.serve()
        client = self.join()
        self.assertEqual(client.id, 0)
        self.assertEqual(client.peers, {})
        self.assertEqual(os.fstat(client.memory).st_size, SIZE)
        self.assertEqual(os.fstat(client.memory).st_ino, os.stat(self.region).st_ino)
        self.assertTrue(client.hears_nothing())

    def test_memory_is_shared(self):
        self.serve()
        a, b = self.join(), self.join()
        os.pwrite(a.memory, b"hello", 12345)
        self.assertEqual(os.pread(b.memory, 5, 12345), b"hello")

    def test_arrivals_and_departures(self):
        self.serve("--vectors", "3")
        a = self.join(3)
        b = self.join(3)
        self.assertEqual(list(b.peers), [a.id])
        self.assertEqual(a.arrival(3)[0], b.id)
        c = self.join(3)
        self.assertEqual(set(c.peers), {a.id, b.id})
        for client in a, b:
            self.assertEqual(client.arrival(3)[0], c.id)
        self.assertEqual(len({a.id, b.id, c.id}), 3)
        b.leave()
        for client in a, c:
            self.assertEqual(client.departure(), b.id)
            self.assertTrue(client.hears_nothing())

    def test_every_bell_rings_one_vector_of_one_client(self):
        self.serve("--vectors", "4")
        clients = [self.join(4) for _ in range(3)]
        for i, client in enumerate(clients):
            for _ in clients[i + 1:]:
                number, bells = client.arrival(4)
                client.peers[number] = bells
        bells = [bell for client in clients for bell in client.bells]
        for a in clients:
            for b in clients:
                for vector in range(4) if a is not b else ():
                    ring(a.peers[b.id][vector])
                    ring(a.peers[b.id][vector])
                    self.assertEqual(rings(b.bells[vector]), 2)
                    self.assertTrue(all(map(is_silent, bells)))

    def test_most_vectors(self):
        self.serve("--vectors", "64")
        a, b = self.join(64), self.join(64)
        number, bells = a.arrival(64)
        self.assertEqual(number, b.id)
        ring(bells[63])
        self.assertEqual(rings(b.bells[63]), 1)

    def test_an_id_is_not_given_again_soon(self):
        self.serve()
        first = self.join()
        ids = {first.id}
        for _ in range(20):
            client = self.join()
            self.assertNotIn(client.id, ids)
            ids.add(client.id)
            client.leave()

    def test_many_clients(self):
        self.serve("--vectors", "2")
        # No more than 16 belong to one process, which the test of floods is about.
        clients = [self.join(2) for _ in range(16)]
        for i, client in enumerate(clients):
            self.assertEqual(set(client.peers), {other.id for other in clients[:i]})
            told = [client.arrival(2)[0] for _ in clients[i + 1:]]
            self.assertEqual(told, [other.id for other in clients[i + 1:]])
        for i, leaver in enumerate(clients):
            leaver.leave()
            for client in clients[i + 1:]:
                self.assertEqual(client.departure(), leaver.id)
