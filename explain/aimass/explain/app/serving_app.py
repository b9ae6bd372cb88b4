"""Streamlit as this app wants it: quiet, without telemetry, in the colours of the charts, ended cleanly."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from streamlit import config
from streamlit.web import bootstrap

from aimass.explain.app.house import House, enter
from aimass.explain.app.settings import AppSettings
from aimass.explain.charts.theme import DARK, LIGHT

__all__ = ["options_of", "serve"]

_SCRIPT: Final = Path(__file__).with_name("main.py")


def serve(settings: AppSettings) -> None:
    """Show the app until a signal ends it."""
    options = options_of(settings)
    for name, value in options.items():
        config.set_option(name, value)
    enter(House(settings))
    try:
        bootstrap.run(str(_SCRIPT), is_hello=False, args=[], flag_options={})
    finally:
        enter(None)


def options_of(settings: AppSettings) -> dict[str, Any]:
    """Streamlit's options, by their names."""
    found: dict[str, Any] = {
        "browser.gatherUsageStats": False,
        "browser.serverAddress": settings.host,
        "browser.serverPort": settings.port,
        "client.showErrorDetails": "none",
        "client.showErrorLinks": False,
        "client.toolbarMode": "viewer",
        "logger.hideWelcomeMessage": True,
        "runner.magicEnabled": False,
        "server.address": settings.host,
        "server.port": settings.port,
        "server.baseUrlPath": settings.base_path.strip("/"),
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.maxUploadSize": settings.upload_mib,
        "server.showEmailPrompt": False,
        "server.enableStaticServing": False,
        "server.allowedHosts": list(settings.allowed_hosts),
    }
    found |= {"theme.paddingTop": "2.5rem", "theme.headingFontSizes": ["1.9rem", "1.35rem", "1.1rem"]}
    if settings.certificate:
        found |= {"server.sslCertFile": settings.certificate, "server.sslKeyFile": settings.key}
    if settings.login:
        found["secrets.files"] = [settings.login]
    for section, theme, primary, raised, edge in (
        ("light", LIGHT, "#0062A0", "#f2f4f7", "#c9ced6"),
        ("dark", DARK, "#56B4E9", "#1f242c", "#4a525e"),
    ):
        found |= {
            f"theme.{section}.primaryColor": primary,
            f"theme.{section}.backgroundColor": theme.paper,
            f"theme.{section}.textColor": theme.ink,
            f"theme.{section}.secondaryBackgroundColor": raised,
            f"theme.{section}.borderColor": edge,
            f"theme.{section}.sidebar.backgroundColor": raised,
            f"theme.{section}.sidebar.secondaryBackgroundColor": theme.paper,
            f"theme.{section}.linkColor": primary,
            f"theme.{section}.chartCategoricalColors": list(theme.series),
        }
    return found
