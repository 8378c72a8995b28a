# SPDX-License-Identifier: mpich2
import os
import subprocess
import unittest

from scratch import ScratchTest
from vms import cli, verbs
from vms.messages import Misuse

TOOL = os.path.join(os.path.dirname(__file__), "../../../tools/ivshmem-vms")


def read(*words: str) -> cli.Request:
    request = cli.Request()
    request.read(list(words))
    return request


class Reading(unittest.TestCase):
    def test_options_before_and_after_the_verb(self):
        request = read("--size", "1M", "up", "--add", "a", "2", "--add", "--b", "--size", "2M")
        self.assertEqual((request.verb, request.args, request.given), ("up", ["2"], {"--size": "2M"}))
        self.assertEqual(request.repeated["--add"], ["a", "--b"])

    def test_after_exec_all_is_the_guests(self):
        request = read("exec", "--name", "x", "0", "ls", "--name", "y", "--help")
        self.assertEqual((request.given, request.args), ({"--name": "x"}, ["0", "ls", "--name", "y", "--help"]))
        self.assertEqual(read("add", "--", "--x", "--help").args, ["--x", "--help"])

    def test_mistakes(self):
        for words, said in ((["--bogus"], "--bogus: no such option"), (["up", "--size"], "--size needs a value"),
                            (["exec", "-x"], "-x: no such option"), (["up", "--size=1M"], "no such option")):
            with self.assertRaisesRegex(Misuse, rf"{said} \(ivshmem-vms --help\)"):
                read(*words)
        self.assertTrue(read("up", "--help", "--bogus").help)


class ForTheGuestsShell(unittest.TestCase):
    def test_one_word_is_a_line_and_several_are_arguments(self):
        for words, line in (([], []), (["exit 7"], ["exit 7"]), (["if", "it's"], [r"'if' 'it'\''s'"]),
                            (["X=1", "true"], ["'env' 'X=1' 'true'"]), (["X=1"], ["X=1"])):
            self.assertEqual(verbs._for_guests_shell(words), line)


class Running(ScratchTest):
    def run_tool(self, *words, **options):
        options.setdefault("stdout", subprocess.PIPE)
        return subprocess.run([TOOL, *words], stderr=subprocess.PIPE, check=False, text=True, **options)

    def test_statuses_and_messages(self):
        for words, status, said in (([], 2, "no command given"), (["none"], 2, "none: no such command"),
                                    (["--name", "a", "--dir", "b"], 2, "cannot be combined"),
                                    (["status", "--dir", self.path("none")], 1, "no guests are up"),
                                    (["down", "vm1", "--dir", self.path("none")], 2, "down takes no argument"),
                                    (["hosts", "vm1", "--dir", self.path("none")], 2, "hosts takes no argument"),
                                    (["down", "--dir", self.path("none")], 0, "nothing is up in")):
            result = self.run_tool(*words)
            self.assertEqual((result.returncode, result.stdout), (status, ""))
            self.assertRegex(result.stderr, rf"^ivshmem-vms: .*{said}.*\n$")

    def test_env_fails_where_it_is_evaluated(self):
        for words in (["env", "--bogus"], ["env", "--dir", self.path("none")]):
            result = self.run_tool(*words)
            self.assertNotEqual(result.returncode, 0)
            self.assertEqual(result.stdout, "false\n")

    def test_env_gives_values_and_nothing_else(self):
        self.write("set/set", "vms=1\nprefix=/x y=$(id)'\nregion=/dev/shm/x\nserver=/s 0\nready=1\n")
        script = ('eval "$("$1" env --dir "$2")"; '
                  'printf "%s|%s|%s|%s" "$IVSHMEM_VMS_DIR" "${PATH%%:*}" "$HYDRA_LAUNCHER_EXEC" '
                  '"$MPIR_CVAR_NEMESIS_IVSHMEM_SERVER"')
        found = subprocess.run(["bash", "-c", script, "-", TOOL, self.path("set")], stdout=subprocess.PIPE, text=True,
                               check=True).stdout
        self.assertEqual(found.split("|"), [self.path("set"), "/x y=$(id)'/bin", self.path("set/ssh"), "/s 0"])

    def test_names_that_are_no_text_pass_through(self):
        result = subprocess.run([TOOL.encode(), b"--\xff"], capture_output=True, check=False, env={"LC_ALL": "C.UTF-8"})
        self.assertEqual(result.stderr, b"ivshmem-vms: --\xff: no such option (ivshmem-vms --help)\n")

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "wb") as full:
            result = self.run_tool("--help", stdout=full)
        self.assertEqual((result.returncode, result.stderr),
                         (1, "ivshmem-vms: cannot write the output: No space left on device\n"))

    def test_without_its_parts(self):
        os.symlink(os.path.realpath(TOOL), self.path("link"))
        subprocess.run([self.path("link"), "--help"], stdout=subprocess.DEVNULL, check=True)
        with open(TOOL, "rb") as tool, open(self.path("alone"), "wb") as alone:
            alone.write(tool.read())
        os.chmod(self.path("alone"), 0o755)
        result = subprocess.run([self.path("alone")], capture_output=True, check=False, text=True)
        self.assertEqual(result.returncode, 1)
        self.assertIn("its Python package vms is neither in", result.stderr)
