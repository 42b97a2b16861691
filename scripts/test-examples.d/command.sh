# shellcheck shell=bash
test_command() { :; }
