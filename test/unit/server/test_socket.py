# SPDX-License-Identifier: mpich2
"""Who can connect, how the socket and the region are made, and what is refused at start."""
import grp
import os
import socket
import stat
import subprocess
import sys

from scratch import LIMIT, NOBODY, SERVER, SIZE, Case, root_only


class Start(Case):
    def fails(self, *args, path=None, region=None, status=1) -> str:
        """The server ends with that status, after one line that a person can read."""
        result = subprocess.run([SERVER, "--socket", path or self.path, *args, region or self.region],
                                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertRegex(result.stderr, "^ivshmem-server: [^\n]+\n$")
        return result.stderr

    def uses_wrongly(self, *args) -> str:
        result = subprocess.run([SERVER, *args], capture_output=True, text=True, timeout=LIMIT)
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertRegex(result.stderr, "^ivshmem-server: [^\n]+; see ivshmem-server --help\n$")
        return result.stderr


class Usage(Start):
    def test_wrong_usage(self):
        s = "--socket", self.path
        self.assertIn("0 regions were given", self.uses_wrongly(*s))
        self.assertIn("2 regions were given", self.uses_wrongly(*s, "a", "b"))
        self.assertIn("no socket: give --socket PATH", self.uses_wrongly(self.region))
        for vectors in "", "0", "-1", "65", "1x", "99999999999999999999":
            self.assertIn("is not a number from 1 to 64", self.uses_wrongly(*s, "--vectors", vectors, self.region))
        for group in "", "-1", "no such group", "4294967295", "99999999999999999999":
            self.assertIn("is not a group", self.uses_wrongly(*s, "--group", group, self.region))
        self.assertIn("is not a size", self.uses_wrongly(*s, "--size", "4X", self.region))
        self.assertIn("--size needs a value", self.uses_wrongly(self.region, "--size"))
        self.assertIn("unknown option --mode", self.uses_wrongly("--mode", "660", self.region))
        self.assertIn("unknown option -x", self.uses_wrongly("-x", self.region))
        self.assertFalse(os.path.exists(self.path))

    def test_help_and_version(self):
        for option, text in ("--help", "usage: ivshmem-server "), ("--version", "ivshmem-server (mpich-ivshmem) "):
            result = subprocess.run([SERVER, option], capture_output=True, text=True, timeout=LIMIT)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertTrue(result.stdout.startswith(text))

    def test_what_cannot_be_served(self):
        self.assertIn("does not exist", self.fails(region=self.region + "-none"))
        self.assertIn("Is a directory", self.fails(region=self.folder))
        with open(self.region, "wb") as file:
            file.write(bytes(SIZE + 4096))
        self.assertIn("which is not a power of two", self.fails())
        self.assertFalse(os.path.exists(self.path))

    def test_a_sparse_region_is_served_with_a_warning(self):
        os.truncate(self.region, 0)
        os.truncate(self.region, SIZE)
        self.serve().wait_for("has not all its memory")
        self.join()


class Region(Start):
    def mode(self, path=None) -> tuple[int, int]:
        st = os.stat(path or self.region)
        return stat.S_IMODE(st.st_mode), st.st_gid

    def setUp(self):
        super().setUp()
        os.unlink(self.region)
        self.addCleanup(os.umask, os.umask(0))  # this must not matter

    def test_size_creates_a_region_for_this_user(self):
        server = self.serve("--size", "4M")
        server.wait_for(f"created {self.region}, 4 MiB")
        self.assertEqual(self.mode(), (0o600, os.getegid()))
        self.assertEqual(self.mode(self.path), (0o600, os.getegid()))
        with open(self.region, "rb") as file:
            self.assertEqual(file.read(8), b"IVSHMPI\0")
            file.seek(0)
            before = file.read()
        server.end()
        # The next server takes it as it is.
        self.serve("--size", "4M").wait_for("is already a region")
        client = self.join()
        self.assertEqual(os.pread(client.memory, SIZE, 0), before)

    @root_only
    def test_the_group_may_connect_and_open_the_file(self):
        for group in "4711", grp.getgrgid(os.getegid()).gr_name:
            server = self.serve("--size", "4M", "--group", group)
            number = 4711 if group == "4711" else os.getegid()
            self.assertEqual(self.mode(), (0o660, number))
            self.assertEqual(self.mode(self.path), (0o660, number))
            server.end()

    @root_only
    def test_a_file_that_was_there_keeps_its_permissions(self):
        with open(self.region, "wb") as file:
            file.write(bytes(SIZE))
        os.chmod(self.region, 0o640)
        self.serve("--group", "4711")
        self.assertEqual(self.mode(), (0o640, os.getegid()))
        self.assertEqual(self.mode(self.path), (0o660, 4711))

    def test_a_file_of_another_size_is_refused(self):
        with open(self.region, "wb") as file:
            file.write(bytes(2 * SIZE))
        self.assertIn("already exists and has 8 MiB, not 4 MiB", self.fails("--size", "4M"))

    def test_a_link_is_not_followed(self):
        os.symlink(self.region + "-elsewhere", self.region)
        self.assertIn("is a symbolic link", self.fails("--size", "4M"))
        self.assertFalse(os.path.exists(self.region + "-elsewhere"))


class Socket(Start):
    def test_what_is_no_socket_stays(self):
        os.mkdir(self.path)
        self.assertIn("exists and is not a socket", self.fails())
        os.rmdir(self.path)
        for target in self.region, self.path + "-none":
            os.symlink(target, self.path)
            self.assertIn("exists and is not a socket", self.fails())
            self.assertTrue(os.path.islink(self.path))
            os.unlink(self.path)
        with open(self.path, "w") as file:
            file.write("text")
        self.assertIn("exists and is not a socket", self.fails())

    def test_a_socket_of_another_kind_stays(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(self.path)
            self.assertIn("cannot find out whether a server listens", self.fails())
            self.assertTrue(os.path.exists(self.path))

    def test_a_server_that_does_not_answer_keeps_its_socket(self):
        with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
            busy.bind(self.path)
            busy.listen(0)
            waiting.connect(self.path)
            self.assertIn("another server listens", self.fails())

    def test_paths(self):
        self.assertIn("No such file", self.fails(path=f"{self.folder}/none/socket"))
        self.assertIn("its name must have 1 to 107 bytes", self.fails(path=f"{self.folder}/"))
        self.assertIn("its name must have 1 to 107 bytes", self.fails(path=f"{self.folder}/{'x' * 108}"))
        # The folder may be of any length.
        deep = os.path.join(self.folder, *["y" * 100] * 3)
        os.makedirs(deep)
        self.serve(socket_path=f"{deep}/{'x' * 107}")
        self.assertTrue(stat.S_ISSOCK(os.stat(f"{deep}/{'x' * 107}").st_mode))
        # A path may be relative, and that of the region then counts from where the server was started.
        os.mkdir(f"{self.folder}/z")
        self.serve(socket_path="z/socket", region="region", cwd=self.folder)
        self.join(path=f"{self.folder}/z/socket")

    @root_only
    def test_a_socket_of_another_user_stays(self):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(self.path)
        os.chown(self.path, NOBODY, -1)
        self.assertIn("exists and belongs to ", self.fails())
        self.assertTrue(os.path.exists(self.path))

    @root_only
    def test_a_link_of_another_user_is_not_followed(self):
        everyones, elsewhere = f"{self.folder}/everyones", f"{self.folder}/elsewhere"
        os.mkdir(elsewhere)
        os.mkdir(everyones)
        os.chmod(everyones, 0o1777)
        os.symlink(elsewhere, f"{everyones}/link")
        os.chown(f"{everyones}/link", NOBODY, -1, follow_symlinks=False)
        self.assertIn("is a symbolic link that another user made", self.fails(path=f"{everyones}/link/socket"))
        self.assertEqual(os.listdir(elsewhere), [])

    @root_only
    def test_permissions_keep_others_out(self):
        os.chmod(self.folder, 0o755)
        program = "import sys; from scratch import Client; Client(sys.argv[1]).greet()"

        def join(**who) -> str:
            return subprocess.run([sys.executable, "-B", "-c", program, self.path], capture_output=True, text=True,
                                  timeout=LIMIT, cwd=os.path.dirname(__file__), **who).stderr

        server = self.serve()
        self.assertIn("PermissionError", join(user=NOBODY, group=NOBODY, extra_groups=[]))
        server.end()
        self.serve("--group", "4711")
        self.assertIn("PermissionError", join(user=NOBODY, group=NOBODY, extra_groups=[]))
        self.assertEqual(join(user=NOBODY, group=NOBODY, extra_groups=[4711]), "")

    def test_closed_standard_descriptors(self):
        for shell in 'exec "$@" <&- >&-', 'exec "$@" 2>&-', 'exec "$@" <&- >&- 2>&-':
            process = subprocess.Popen(["/bin/sh", "-c", shell, "sh", SERVER, "--socket", self.path, self.region],
                                       stderr=subprocess.PIPE)
            try:
                while True:
                    try:
                        client = self.join()
                        break
                    except (FileNotFoundError, ConnectionRefusedError):
                        self.assertIsNone(process.poll())
                self.assertTrue(client.hears_nothing())
                process.terminate()
                self.assertEqual(process.wait(LIMIT), 0)
            finally:
                process.kill()
                process.communicate()
