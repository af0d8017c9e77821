"""The live app in every user's Jupyter server, as /usr/local/etc/jupyter/jupyter_server_config.py."""

c = get_config()  # noqa: F821

c.ServerProxy.servers = {
    "mdfa": {
        "command": ["mdfa", "app", "--port", "{port}", "--address", "127.0.0.1", "--origin", "*"],
        "timeout": 60,
        "new_browser_tab": True,
        "launcher_entry": {"title": "Learning without backpropagation", "path_info": "mdfa/app"},
    }
}
