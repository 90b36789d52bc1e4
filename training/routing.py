"""Addresses of sockets."""

from django.urls import path

from training.consumers import RunConsumer

websocket_urlpatterns = [path("ws/runs/<str:run_id>", RunConsumer.as_asgi())]
