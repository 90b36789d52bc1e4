"""What one hears of by letter: choosing, a test letter, and the letters' own link that ends them."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.csrf import csrf_exempt

from federations.services import notifications
from federations.web.page import page


@page("GET", "POST")
def choices(request: Any) -> HttpResponse:
    """Kinds × email for each of one's organizations."""
    person = request.actor.person
    if request.method == "POST":
        shown = request.POST.getlist("shown")
        wanted = {
            organization: frozenset(
                kind.removeprefix(f"{organization} ")
                for kind in request.POST.getlist("email")
                if kind.startswith(f"{organization} ")
            )
            for organization in shown
        }
        changed = notifications.choose(person, wanted)
        messages.success(request, f"Saved: {changed} changed." if changed else "Nothing to change: it was so already.")
        return redirect("/account/notifications")
    return render(request, "federations/notifications.html", {"places": notifications.wishes(person)})


@page("POST")
def test_letter(request: Any) -> HttpResponse:
    """A letter to oneself."""
    letter = notifications.send_test(request.actor.person)
    messages.success(request, f"A test letter to {letter.to} is on its way. If it does not come, tell the operator.")
    return redirect("/account/notifications")


# The link is the proof; a mail program that offers "unsubscribe" posts without having seen a form (RFC 8058).
@csrf_exempt
@page("GET", "POST", public=True)
def unsubscribe(request: Any, token: str) -> HttpResponse:
    """Looking shows what would end; POST ends it."""
    done = request.method == "POST"
    found = notifications.unsubscribe(token) if done else notifications.find_subscription(token)
    response = render(request, "federations/unsubscribe.html", {"found": found, "done": done})
    response["Referrer-Policy"] = "no-referrer"
    return response
