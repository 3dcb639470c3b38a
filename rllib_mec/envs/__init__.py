"""PettingZoo environments of many mobile devices that share channels and MEC servers."""
